/**
 * The kernel's keyring of trusted certificates, .builtin_trusted_keys and what was added to it.
 *
 * Source: Linux certs/system_keyring.c; RFC 5280, "Certificate".
 * Invariant: a key is found by issuer and serial number or by its subject key identifier, as a signature names it.
 */
import { X509Certificate, type KeyObject } from 'node:crypto';
import {
  DerError,
  DerFields,
  TAG,
  context,
  isSame,
  oidOf,
  onlyValue,
  readValue,
  valuesIn,
} from './der.js';
import type { DerValue } from './der.js';

/** One trusted key. */
export interface TrustedKey {
  readonly subject: string;
  readonly key: KeyObject;
  readonly issuer: Uint8Array;
  readonly serial: Uint8Array;
  readonly keyId: Uint8Array | null;
  /** Seconds since 1970. */
  readonly validFrom: number;
  readonly validTo: number;
}

/** How a signature names its signer. */
export type SignerId =
  | { readonly kind: 'issuer'; readonly issuer: Uint8Array; readonly serial: Uint8Array }
  | { readonly kind: 'key-id'; readonly keyId: Uint8Array };

const SUBJECT_KEY_IDENTIFIER = '2.5.29.14';

export class Keyring {
  readonly #keys: TrustedKey[] = [];

  /** Adds every certificate of a PEM text, or one in DER. @throws DerError when there is none. */
  add(file: Uint8Array): void {
    const text = Buffer.from(file).toString('latin1');
    const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
    for (const certificate of blocks ?? [file]) this.#keys.push(readKey(certificate));
  }

  get size(): number {
    return this.#keys.length;
  }

  find(id: SignerId): TrustedKey | undefined {
    return this.#keys.find(({ issuer, serial, keyId }) =>
      id.kind === 'issuer'
        ? isSame(issuer, id.issuer) && isSame(serial, id.serial)
        : keyId !== null && isSame(keyId, id.keyId),
    );
  }
}

function readKey(certificate: string | Uint8Array): TrustedKey {
  let x509: X509Certificate;
  try {
    x509 = new X509Certificate(certificate);
  } catch (cause) {
    throw new DerError('NOT_DER', 'no certificate', {}, { cause });
  }
  const body = new DerFields(new DerFields(onlyValue(new Uint8Array(x509.raw))).take(TAG.SEQUENCE));
  body.maybe(context(0));
  const serial = body.take(TAG.INTEGER);
  body.take(TAG.SEQUENCE);
  const issuer = body.take(TAG.SEQUENCE);
  for (let n = 0; n < 3; n++) body.take(TAG.SEQUENCE);
  const extensions = body.maybe(context(3));
  return {
    subject: x509.subject.replaceAll('\n', ', '),
    key: x509.publicKey,
    issuer: issuer.whole,
    serial: serial.content,
    keyId: extensions === undefined ? null : keyIdOf(extensions),
    validFrom: Math.floor(Date.parse(x509.validFrom) / 1000),
    validTo: Math.floor(Date.parse(x509.validTo) / 1000),
  };
}

function keyIdOf(extensions: DerValue): Uint8Array | null {
  for (const extension of valuesIn(readValue(extensions.content))) {
    const values = valuesIn(extension);
    const value = values.at(-1);
    if (oidOf(values[0]) !== SUBJECT_KEY_IDENTIFIER || value?.tag !== TAG.OCTET_STRING) continue;
    return onlyValue(value.content).content;
  }
  return null;
}
