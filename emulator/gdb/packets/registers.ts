/**
 * Registers: `g`, `G`, `p`, `P`.
 *
 * Source: GDB manual, "Remote Protocol", "Packets". Digits `xx` stand for a byte that is not available.
 */
import { bytesOfHex, hexOf, parseCount } from '../bytes.js';
import { MALFORMED, OK, REFUSED, type GdbSession, type Reply } from '../session.js';

/** Digits of a register as every reply has them. */
export function registerDigits({ target }: GdbSession, thread: number, number: number): string {
  const bytes = target.readRegister(thread, number);
  return bytes === null ? 'xx'.repeat(sizeOf(target.registers[number]!.bits)) : hexOf(bytes);
}

function sizeOf(bits: number): number {
  return Math.ceil(bits / 8);
}

/** `g`: every general register. */
export function readGeneral(session: GdbSession): Reply {
  let digits = '';
  session.target.registers.forEach((register, number) => {
    if (register.isGeneral) digits += registerDigits(session, session.thread, number);
  });
  return digits;
}

/** `G digits`: writes them; those that are not available keep what they are. */
export function writeGeneral(session: GdbSession, digits: string): Reply {
  const general = session.target.registers.filter((register) => register.isGeneral);
  const wanted = general.reduce((sum, register) => sum + 2 * sizeOf(register.bits), 0);
  if (digits.length !== wanted || !/^[0-9a-fx]*$/i.test(digits)) return MALFORMED;
  let at = 0;
  for (const register of general) {
    const end = at + 2 * sizeOf(register.bits);
    const bytes = bytesOfHex(digits.slice(at, end));
    const number = session.target.registers.indexOf(register);
    const present = session.target.readRegister(session.thread, number);
    at = end;
    if (bytes === null || present === null || hexOf(bytes) === hexOf(present)) continue;
    if (!session.target.writeRegister(session.thread, number, bytes)) return REFUSED;
  }
  return OK;
}

/** `p number`. */
export function readRegister(session: GdbSession, text: string): Reply {
  const number = parseCount(text);
  if (number === null || session.target.registers[number] === undefined) return MALFORMED;
  return registerDigits(session, session.thread, number);
}

/** `P number=digits`. */
export function writeRegister(session: GdbSession, text: string): Reply {
  const [name, digits, ...rest] = text.split('=');
  const number = parseCount(name);
  const bytes = bytesOfHex(digits ?? 'none');
  if (number === null || bytes === null || rest.length > 0) return MALFORMED;
  const register = session.target.registers[number];
  if (register === undefined || bytes.length !== sizeOf(register.bits)) return MALFORMED;
  return session.target.writeRegister(session.thread, number, bytes) ? OK : REFUSED;
}
