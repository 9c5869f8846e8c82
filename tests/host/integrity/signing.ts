/** Keys, certificates and signed payloads, made by openssl as an administrator would. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A key with its certificate, as files. */
export interface Identity {
  readonly key: string;
  readonly certificate: string;
}

/** Whether the tool is here. */
export const HAS_OPENSSL = spawnSync('openssl', ['version']).status === 0;
/** For the titles of tests that need it. */
export const WHY = HAS_OPENSSL ? '' : ' (no openssl here)';

const SIGN = new URL('../../../tools/sign-payload.sh', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'signing-'));
let files = 0;

/** A self-signed certificate; `days` may be negative: then it has expired. */
export function makeIdentity(name: string, algorithm: readonly string[], days = 3650): Identity {
  const [key, certificate] = [join(folder, `${name}.key`), join(folder, `${name}.pem`)];
  const subject = ['-subj', `/O=Caretaker tests/CN=${name}`];
  const how = [
    'req',
    '-x509',
    '-nodes',
    '-newkey',
    ...algorithm,
    ...subject,
    '-keyout',
    key,
    '-out',
    certificate,
  ];
  execFileSync('openssl', [...how, '-days', days.toString()], { stdio: 'ignore' });
  return { key, certificate };
}

/** The payload with a signature behind it, as `make sign` makes it. */
export function sign(
  payload: Uint8Array,
  { key, certificate }: Identity,
  digest = 'sha256',
): Uint8Array {
  const [plain, signed] = [join(folder, `${++files}.elf`), join(folder, `${files}.signed.elf`)];
  writeFileSync(plain, payload);
  execFileSync(SIGN, [key, certificate, plain, signed, digest], { stdio: 'ignore' });
  return new Uint8Array(readFileSync(signed));
}

/** Any PKCS#7 that openssl makes of the payload, appended. */
export function signWith(
  payload: Uint8Array,
  { key, certificate }: Identity,
  options: readonly string[],
): Uint8Array {
  const input = join(folder, `${++files}.elf`);
  writeFileSync(input, payload);
  const made = execFileSync(
    'openssl',
    [
      'cms',
      '-sign',
      '-binary',
      '-signer',
      certificate,
      '-inkey',
      key,
      '-in',
      input,
      '-outform',
      'DER',
      ...options,
    ],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  return appended(payload, new Uint8Array(made));
}

/** A file with a signature behind it, whatever the signature is. */
export function appended(
  payload: Uint8Array,
  signature: Uint8Array,
  header?: Uint8Array,
): Uint8Array {
  const trailer = new Uint8Array(12);
  trailer[2] = 2;
  new DataView(trailer.buffer).setUint32(8, signature.length, false);
  const marker = Buffer.from('~Module signature appended~\n');
  return new Uint8Array(Buffer.concat([payload, signature, header ?? trailer, marker]));
}

/** The bytes of a certificate. */
export const certificateOf = ({ certificate }: Identity): Uint8Array =>
  new Uint8Array(readFileSync(certificate));
