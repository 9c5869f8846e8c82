/**
 * A signature appended to a file as the kernel has it behind modules and kexec images.
 *
 * Layout: content, signature, struct module_signature, marker.
 * Source: Linux include/linux/module_signature.h, kernel/module_signature.c: mod_check_sig(), kernel/module/signing.c.
 * Invariant: content and signature are parts of the file that do not overlap; a marker that is not at the very end is
 * content like any other, so data behind a signature makes the file an unsigned one.
 */
import { ok, refuse, type Result } from '../result.js';

/** What stands at the end of a signed file. */
export const MODULE_SIG_STRING = '~Module signature appended~\n';
/** The only kind of signature that kernels take. */
export const PKEY_ID_PKCS7 = 2;
/** struct module_signature: algo, hash, id_type, signer_len, key_id_len, three bytes of padding, big-endian sig_len. */
export const MODULE_SIGNATURE_BYTES = 12;

/** A file taken apart. */
export interface SignedFile {
  readonly content: Uint8Array;
  /** PKCS#7 in DER. */
  readonly signature: Uint8Array;
}

const marker = new TextEncoder().encode(MODULE_SIG_STRING);

/** Errnos: ENODATA it is not signed; EBADMSG the structure cannot be; ENOPKG another kind of signature. */
export function splitSignature(file: Uint8Array): Result<SignedFile> {
  const markerAt = file.length - marker.length;
  const isSigned = markerAt > 0 && marker.every((byte, n) => file[markerAt + n] === byte);
  if (!isSigned) return refuse('ENODATA');
  const structAt = markerAt - MODULE_SIGNATURE_BYTES;
  if (structAt < 0) return refuse('EBADMSG');
  const header = file.subarray(structAt, markerAt);
  const length = new DataView(header.buffer, header.byteOffset).getUint32(8, false);
  if (length >= structAt) return refuse('EBADMSG');
  if (header[2] !== PKEY_ID_PKCS7) return refuse('ENOPKG');
  const isPlain = [0, 1, 3, 4, 5, 6, 7].every((at) => header[at] === 0);
  if (!isPlain || length === 0) return refuse('EBADMSG');
  const signatureAt = structAt - length;
  return ok({
    content: file.subarray(0, signatureAt),
    signature: file.subarray(signatureAt, structAt),
  });
}
