/**
 * A detached PKCS#7 signature: parsed, held against the content, and against a key of the keyring.
 *
 * Source: RFC 5652, "Signed-data Content Type"; Linux crypto/asymmetric_keys/pkcs7_verify.c and pkcs7_trust.c, whose
 * errnos these are. node:crypto does the arithmetic; the parser is the kernel's part and stays synchronous as it is.
 * Invariant: every signer must verify; one byte more or less anywhere is refused.
 */
import { createHash, verify } from 'node:crypto';
import type { ErrnoName } from '../../../abi/luo.js';
import {
  DerError,
  DerFields,
  TAG,
  context,
  contextPrimitive,
  isSame,
  oidOf,
  onlyValue,
  valuesIn,
} from './der.js';
import type { DerValue } from './der.js';
import type { Keyring, SignerId, TrustedKey } from './keyring.js';

/** What became of a signature: the key that made it, or why it is refused. */
export type SignatureVerdict =
  | { readonly ok: true; readonly signer: string }
  | { readonly ok: false; readonly errno: ErrnoName; readonly why: string };

const SIGNED_DATA = '1.2.840.113549.1.7.2';
const MESSAGE_DIGEST = '1.2.840.113549.1.9.4';
const SIGNING_TIME = '1.2.840.113549.1.9.5';

const DIGESTS: Readonly<Record<string, string>> = {
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
};

/** RSA with PKCS #1 v1.5 padding, and ECDSA, alone or together with a digest. */
const ALGORITHMS: ReadonlySet<string> = new Set([
  '1.2.840.113549.1.1.1',
  '1.2.840.113549.1.1.11',
  '1.2.840.113549.1.1.12',
  '1.2.840.113549.1.1.13',
  '1.2.840.10045.2.1',
  '1.2.840.10045.4.3.2',
  '1.2.840.10045.4.3.3',
  '1.2.840.10045.4.3.4',
]);

interface Signer {
  readonly id: SignerId;
  readonly digest: string;
  readonly algorithm: string;
  readonly attributes: DerValue | undefined;
  readonly signature: Uint8Array;
}

const no = (errno: ErrnoName, why: string): SignatureVerdict => ({ ok: false, errno, why });

/**
 * Holds a signature against content and keyring. `now` in seconds since 1970.
 * Errnos: EBADMSG it is no detached PKCS#7; ENOPKG an algorithm that the kernel lacks; EKEYREJECTED another content or
 * another key signed it, or it was signed outside the key's time; ENOKEY no such key; EKEYEXPIRED the key is out of date.
 */
export function verifyPkcs7(
  signature: Uint8Array,
  content: Uint8Array,
  keyring: Keyring,
  now: number,
): SignatureVerdict {
  try {
    const signers = readSigners(signature);
    if (signers.length === 0) return no('EBADMSG', 'nobody has signed');
    let verdict = no('ENOKEY', 'nobody has signed');
    for (const signer of signers) {
      verdict = verifySigner(signer, content, keyring, now);
      if (!verdict.ok) return verdict;
    }
    return verdict;
  } catch (error) {
    if (error instanceof DerError)
      return no('EBADMSG', `the signature is no PKCS#7: ${error.message}`);
    throw error;
  }
}

function readSigners(signature: Uint8Array): Signer[] {
  const outer = new DerFields(onlyValue(signature));
  if (oidOf(outer.take(TAG.OID)) !== SIGNED_DATA) throw new DerError('NOT_DER', 'not signed data');
  const data = new DerFields(onlyValue(outer.take(context(0)).content));
  outer.end();
  data.take(TAG.INTEGER);
  data.take(TAG.SET);
  const content = new DerFields(data.take(TAG.SEQUENCE));
  content.take(TAG.OID);
  if (content.nextTag !== undefined) throw new DerError('NOT_DER', 'it carries content of its own');
  data.maybe(context(0));
  data.maybe(context(1));
  const signers = valuesIn(data.take(TAG.SET)).map(readSigner);
  data.end();
  return signers;
}

function readSigner(value: DerValue): Signer {
  const fields = new DerFields(value);
  fields.take(TAG.INTEGER);
  const keyId = fields.maybe(contextPrimitive(0));
  const id: SignerId =
    keyId === undefined
      ? issuerOf(fields.take(TAG.SEQUENCE))
      : { kind: 'key-id', keyId: keyId.content };
  const digest = oidOf(valuesIn(fields.take(TAG.SEQUENCE))[0]);
  const attributes = fields.maybe(context(0));
  const algorithm = oidOf(valuesIn(fields.take(TAG.SEQUENCE))[0]);
  const signature = fields.take(TAG.OCTET_STRING).content;
  fields.maybe(context(1));
  fields.end();
  return { id, digest, algorithm, attributes, signature };
}

function issuerOf(value: DerValue): SignerId {
  const fields = new DerFields(value);
  const issuer = fields.take(TAG.SEQUENCE).whole;
  const serial = fields.take(TAG.INTEGER).content;
  return { kind: 'issuer', issuer, serial };
}

function verifySigner(
  { id, digest, algorithm, attributes, signature }: Signer,
  content: Uint8Array,
  keyring: Keyring,
  now: number,
): SignatureVerdict {
  const hash = DIGESTS[digest];
  if (hash === undefined || !ALGORITHMS.has(algorithm)) {
    return no('ENOPKG', `digest ${digest} with ${algorithm} is not supported`);
  }
  const found = attributes === undefined ? null : readAttributes(attributes);
  const computed = createHash(hash).update(content).digest();
  if (found !== null && !isSame(found.messageDigest, computed)) {
    return no('EKEYREJECTED', 'the content is not what was signed');
  }
  const key = keyring.find(id);
  if (key === undefined) return no('ENOKEY', 'no key of the keyring has made it');
  const time = found?.signingTime ?? null;
  if (time !== null && !isValidAt(key, time)) {
    return no('EKEYREJECTED', 'it was signed outside the validity of its key');
  }
  if (!isValidAt(key, now)) return no('EKEYEXPIRED', `${key.subject} is out of date`);
  const signed = attributes === undefined ? content : asSet(attributes);
  const isRight = isVerified(hash, signed, key, signature);
  return isRight
    ? { ok: true, signer: key.subject }
    : no('EKEYREJECTED', 'the signature is not of this content and key');
}

/** A signature of another form than the key's is a wrong one. */
function isVerified(
  hash: string,
  signed: Uint8Array,
  { key }: TrustedKey,
  signature: Uint8Array,
): boolean {
  try {
    return verify(hash, signed, key, signature);
  } catch {
    return false;
  }
}

const isValidAt = ({ validFrom, validTo }: TrustedKey, time: number): boolean =>
  time >= validFrom && time <= validTo;

/** Attributes are signed as a SET OF, though they are sent as [0]. */
function asSet({ whole }: DerValue): Uint8Array {
  const copy = whole.slice();
  copy[0] = TAG.SET;
  return copy;
}

function readAttributes(attributes: DerValue): {
  messageDigest: Uint8Array;
  signingTime: number | null;
} {
  let messageDigest: Uint8Array | null = null;
  let signingTime: number | null = null;
  for (const attribute of valuesIn(attributes)) {
    const fields = new DerFields(attribute);
    const name = oidOf(fields.take(TAG.OID));
    const values = valuesIn(fields.take(TAG.SET));
    const [value] = values;
    if (value === undefined || values.length > 1) continue;
    if (name === MESSAGE_DIGEST && value.tag === TAG.OCTET_STRING) messageDigest = value.content;
    if (name === SIGNING_TIME) signingTime = timeOf(value);
  }
  if (messageDigest === null) throw new DerError('NOT_DER', 'signed attributes without a digest');
  return { messageDigest, signingTime };
}

/** UTCTime has two digits of the year, 50 to 99 of the last century. @throws DerError. */
function timeOf({ tag, content }: DerValue): number {
  const text = Buffer.from(content).toString('latin1');
  const match = /^(\d{2})?(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text);
  const isTime = tag === TAG.UTC_TIME || tag === TAG.GENERALIZED_TIME;
  if (match === null || !isTime) throw new DerError('NOT_DER', 'no time');
  const [, given, year = '', month = '', day = '', hour = '', minute = '', second = ''] = match;
  const century = given ?? (Number.parseInt(year, 10) >= 50 ? '19' : '20');
  const iso = `${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`;
  const seconds = Date.parse(iso) / 1000;
  if (!Number.isFinite(seconds)) throw new DerError('NOT_DER', 'no time');
  return seconds;
}
