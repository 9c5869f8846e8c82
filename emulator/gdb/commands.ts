/**
 * Which handler answers which packet.
 *
 * Source: GDB manual, "Remote Protocol", "Packets", "General Query Packets".
 * Invariant: a packet in no row is unsupported, which GDB takes as an answer.
 */
import { fileCall } from './packets/files.js';
import {
  readBinary,
  readDigits,
  searchMemory,
  writeBinary,
  writeDigits,
} from './packets/memory.js';
import { clearPoint, setPoint } from './packets/points.js';
import * as queries from './packets/queries.js';
import * as registers from './packets/registers.js';
import * as resume from './packets/resume.js';
import * as threads from './packets/threads.js';
import { MALFORMED, OK, UNSUPPORTED, type GdbSession, type Reply } from './session.js';
import { stopReply } from './stop-reply.js';

type Handler = (session: GdbSession, argument: string) => Reply;

/** Packets that are a word: the whole of it, or up to the character that ends the word. */
const WORDS: Readonly<Record<string, Handler>> = {
  vCont: resume.resumeWithActions,
  'vCont?': resume.actions,
  vFile: fileCall,
  vKill: resume.killProcess,
  vRun: resume.run,
  bc: resume.continueBackwards,
  bs: resume.stepBackwards,
  qSupported: queries.supported,
  qXfer: queries.transfer,
  qOffsets: queries.offsets,
  qAttached: () => '1',
  qSymbol: () => OK,
  qC: threads.currentThread,
  qfThreadInfo: threads.firstThreads,
  qsThreadInfo: threads.moreThreads,
  qThreadExtraInfo: threads.extraInfo,
  'qSearch:memory': searchMemory,
  'qqemu.PhyMemMode': queries.physicalMode,
  'Qqemu.PhyMemMode': queries.setPhysicalMode,
  QStartNoAckMode: queries.startNoAckMode,
  QNonStop: queries.nonStop,
  qRcmd: queries.monitor,
};

/** Packets that are a letter with its argument behind it. */
const LETTERS: Readonly<Record<string, Handler>> = {
  '?': stopReply,
  '!': () => OK,
  c: resume.continueOn,
  C: resume.continueWithSignal,
  s: resume.step,
  S: resume.stepWithSignal,
  g: (session, argument) => (argument === '' ? registers.readGeneral(session) : MALFORMED),
  G: registers.writeGeneral,
  p: registers.readRegister,
  P: registers.writeRegister,
  m: readDigits,
  M: writeDigits,
  x: readBinary,
  X: writeBinary,
  H: threads.selectThread,
  T: threads.isAlive,
  Z: setPoint,
  z: clearPoint,
  D: resume.detach,
  k: resume.kill,
  R: resume.restart,
};

const WORD = /^(?:qSearch:memory|[bqQv][A-Za-z.]+\??)/;

/** Answers a packet; null when the answer must wait, or when there is none. */
export function answer(session: GdbSession, body: string): Reply {
  const word = WORD.exec(body)?.[0];
  if (word !== undefined) {
    return Object.hasOwn(WORDS, word)
      ? WORDS[word]!(session, body.slice(word.length + 1))
      : UNSUPPORTED;
  }
  const letter = body.slice(0, 1);
  return Object.hasOwn(LETTERS, letter) ? LETTERS[letter]!(session, body.slice(1)) : UNSUPPORTED;
}
