/**
 * What a client asks about the stub: qSupported, qXfer, qOffsets, qAttached, the physical memory mode, `monitor`.
 *
 * Source: GDB manual, "Remote Protocol", "General Query Packets"; QEMU manual, "GDB usage" (qqemu.PhyMemMode).
 */
import { parseCount, stringOfHex, textOfString } from '../bytes.js';
import { MAX_PACKET, escaped } from '../framing.js';
import { MALFORMED, OK, UNSUPPORTED, type GdbSession, type Reply } from '../session.js';
import { librariesXml, memoryMapXml, targetXml, threadsXml } from '../target-description.js';

const FEATURES = [
  `PacketSize=${MAX_PACKET.toString(16)}`,
  'QStartNoAckMode+',
  'QNonStop-',
  'qXfer:features:read+',
  'qXfer:memory-map:read+',
  'qXfer:exec-file:read+',
  'qXfer:libraries:read+',
  'qXfer:threads:read+',
  'vContSupported+',
  'ReverseStep+',
  'ReverseContinue+',
  'swbreak+',
  'hwbreak+',
  'binary-upload+',
];

/** `qSupported[:feature;...]`. */
export function supported(): Reply {
  return FEATURES.join(';');
}

/** `QStartNoAckMode`: the OK itself is still acknowledged. */
export function startNoAckMode(session: GdbSession): Reply {
  session.isAcknowledged = false;
  return OK;
}

/** `QNonStop:n`: pCPUs stop together, and only that can be had. */
export function nonStop(_session: GdbSession, text: string): Reply {
  if (text === '0') return OK;
  return text === '1' ? 'E.the pCPUs of this machine stop together' : MALFORMED;
}

/** `qOffsets`: where the image's first segment lies; the others keep their distances. */
export function offsets(session: GdbSession): Reply {
  const base = mainImage(session);
  return base === undefined ? UNSUPPORTED : `TextSeg=${base.toString(16)}`;
}

function mainImage(session: GdbSession): bigint | undefined {
  session.mainImage ??= session.target.images()[0] ?? null;
  return session.mainImage ?? undefined;
}

type Document = (session: GdbSession, annex: string) => string | null;

const DOCUMENTS: Readonly<Record<string, Document>> = {
  features: ({ target }, annex) => (annex === 'target.xml' ? targetXml(target.registers) : null),
  'memory-map': ({ target }, annex) => (annex === '' ? memoryMapXml(target) : null),
  threads: ({ target }, annex) => (annex === '' ? threadsXml(target.threads()) : null),
  libraries: (session, annex) => (annex === '' ? libraries(session) : null),
  // The annex is a process id or nothing; there is one process.
  'exec-file': ({ target }) => target.executable.path,
};

function libraries(session: GdbSession): string {
  session.toldImages = session.target.images();
  return librariesXml(session.target, mainImage(session) ?? -1n);
}

const NO_SUCH_ANNEX = 'E00';

/** `qXfer:object:read:annex:offset,length`. */
export function transfer(session: GdbSession, text: string): Reply {
  const [, object, annex, first, second] =
    /^([a-z-]+):read:([^:]*):([0-9a-f]+),([0-9a-f]+)$/i.exec(text) ?? [];
  if (object === undefined || annex === undefined) return UNSUPPORTED;
  const offset = parseCount(first);
  const length = parseCount(second);
  if (offset === null || length === null) return MALFORMED;
  if (!Object.hasOwn(DOCUMENTS, object)) return UNSUPPORTED;
  const document = DOCUMENTS[object]!(session, annex);
  if (document === null) return NO_SUCH_ANNEX;
  const data = textOfString(document);
  const end = offset + Math.min(length, MAX_PACKET / 2 - 1);
  return (end < data.length ? 'm' : 'l') + escaped(data.slice(offset, end));
}

/** `qqemu.PhyMemMode`: what addresses mean. */
export function physicalMode({ isPhysical }: GdbSession): Reply {
  return isPhysical ? '1' : '0';
}

/** `Qqemu.PhyMemMode:n`. */
export function setPhysicalMode(session: GdbSession, text: string): Reply {
  if (text !== '0' && text !== '1') return MALFORMED;
  session.isPhysical = text === '1';
  return OK;
}

/** `qRcmd,line`: what the user typed after `monitor`; a command that moves is answered when it has arrived. */
export function monitor(session: GdbSession, text: string): Reply {
  const line = stringOfHex(text);
  if (line === null) return MALFORMED;
  const { output, moves } = session.target.runCommand(session.thread, line);
  if (moves) {
    session.request = { kind: 'command' };
    return null;
  }
  session.printed = output;
  return OK;
}
