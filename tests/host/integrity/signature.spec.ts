/** Signatures as openssl makes them and the kernel takes them: each way to be wrong has its errno. */
import { X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FileTable } from '../../../emulator/host/files.js';
import { Admissions, OPEN_POLICY } from '../../../emulator/host/integrity/admission.js';
import type { IntegrityPolicy } from '../../../emulator/host/integrity/admission.js';
import { Process } from '../../../emulator/host/process.js';
import {
  HAS_OPENSSL,
  WHY,
  appended,
  certificateOf,
  makeIdentity,
  sign,
  signWith,
} from './signing.js';
import type { Identity } from './signing.js';

const PAYLOAD = Uint8Array.from({ length: 5000 }, (_, n) => (n * 7) & 0xff);
const DAY = 86_400;
const PATH = '/usr/lib/caretaker/caretaker.elf';

const caller = (): Process =>
  new Process(new FileTable(), new Map(), { pid: 1, name: 'vmm', maxFds: 8 });

/** What a kernel says of a file: who signed it, `unsigned`, or the errno. */
function judge(file: Uint8Array, policy: Partial<IntegrityPolicy>): string {
  const admission = new Admissions({ ...OPEN_POLICY, ...policy }).admit(caller(), PATH, file);
  if (!admission.ok) return admission.errno;
  expect(Buffer.from(admission.content).equals(PAYLOAD)).toBe(true);
  return admission.signer ?? 'unsigned';
}

const changed = (file: Uint8Array, at: number): Uint8Array => {
  const copy = file.slice();
  copy[at < 0 ? copy.length + at : at]! ^= 1;
  return copy;
};

describe.skipIf(!HAS_OPENSSL)(`a payload signed by openssl${WHY}`, () => {
  const make = (name: string, ...algorithm: string[]): Identity =>
    HAS_OPENSSL ? makeIdentity(name, algorithm) : { key: '', certificate: '' };
  const rsa = make('rsa', 'rsa:2048');
  const ec = make('ec', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256');
  const other = make('other', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384');
  const certificates = HAS_OPENSSL ? [rsa, ec].map(certificateOf) : [];
  const from = HAS_OPENSSL ? Date.parse(new X509Certificate(certificates[0]!).validFrom) / 1000 : 0;
  const locked = { certificates, lockdown: 'integrity', now: from + DAY } as const;

  it.each([
    ['RSA', rsa, 'sha256'],
    ['RSA', rsa, 'sha512'],
    ['ECDSA', ec, 'sha256'],
    ['ECDSA', ec, 'sha384'],
  ] as const)('is taken under lockdown: %s with %s', (_name, identity, digest) => {
    expect(judge(sign(PAYLOAD, identity, digest), locked)).toContain('O=Caretaker tests');
  });

  it.each([
    ['with signed attributes', []],
    ['with its certificate inside', ['-noattr']],
    ['naming its key by identifier', ['-noattr', '-nocerts', '-keyid']],
  ])('is taken %s', (_how, options) => {
    for (const identity of [rsa, ec]) {
      // Signed attributes have the time at which this test runs, which is after the keys were made.
      expect(judge(signWith(PAYLOAD, identity, options), locked)).toContain('Caretaker tests');
    }
  });

  // prettier-ignore
  it.each<[string, string, () => Uint8Array, Partial<IntegrityPolicy>]>([
    ['whose content was altered', 'EKEYREJECTED', () => changed(sign(PAYLOAD, rsa), 100), {}],
    ['whose content was altered, with signed attributes', 'EKEYREJECTED', () => changed(signWith(PAYLOAD, ec, []), 100), {}],
    ['whose signature was altered', 'EKEYREJECTED', () => changed(sign(PAYLOAD, rsa), -60), {}],
    ['that is shorter than what was signed', 'EKEYREJECTED', () => sign(PAYLOAD, rsa).subarray(1), {}],
    ['with another length in its trailer', 'EBADMSG', () => changed(sign(PAYLOAD, rsa), -29), {}],
    ['with data behind the signature', 'EPERM', () => Uint8Array.from([...sign(PAYLOAD, rsa), 0]), {}],
    ['with data behind the PKCS#7', 'EBADMSG', () => {
      const signed = sign(PAYLOAD, rsa);
      return appended(PAYLOAD, Uint8Array.from([...signed.subarray(PAYLOAD.length, -40), 0]));
    }, {}],
    ['that carries content in its signature', 'EBADMSG', () => signWith(PAYLOAD, rsa, ['-noattr', '-nocerts', '-nodetach']), {}],
    ['by a key that is not in the keyring', 'EPERM', () => sign(PAYLOAD, other), {}],
    ['by a key that is not in the keyring, where signatures are enforced', 'EKEYREJECTED', () => sign(PAYLOAD, other), { enforce: true }],
    ['by a key that has expired', 'EKEYEXPIRED', () => sign(PAYLOAD, rsa), { now: from + 3651 * DAY }],
    ['by a key that is not valid yet', 'EKEYEXPIRED', () => sign(PAYLOAD, rsa), { now: from - DAY }],
    ['with SHA-1', 'EPERM', () => sign(PAYLOAD, rsa, 'sha1'), {}],
    ['not at all', 'EPERM', () => PAYLOAD, {}],
    ['not at all, where signatures are enforced', 'EKEYREJECTED', () => PAYLOAD, { enforce: true }],
    ['not at all, where the IMA policy appraises', 'EACCES', () => PAYLOAD, { lockdown: 'none', ima: { measure: true, appraise: true } }],
    ['by another kind of signature', 'EPERM', () => appended(PAYLOAD, new Uint8Array(100), Uint8Array.from([0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 100])), {}],
    ['with a length above the file', 'EBADMSG', () => appended(PAYLOAD, new Uint8Array(4), Uint8Array.from([0, 0, 2, 0, 0, 0, 0, 0, 255, 255, 255, 255])), {}],
    ['with padding that is not 0', 'EBADMSG', () => appended(PAYLOAD, new Uint8Array(4), Uint8Array.from([0, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 4])), {}],
    ['by the marker alone', 'EBADMSG', () => new Uint8Array(Buffer.from('x~Module signature appended~\n')), {}],
  ])('%s is refused with %s', (_what, errno, file, policy) => {
    expect(judge(file(), { ...locked, ...policy })).toBe(errno);
  });

  it('is measured and taken without lockdown, whoever signed it, but not when it is wrong', () => {
    const open = { certificates, now: from + DAY };
    expect(judge(PAYLOAD, open)).toBe('unsigned');
    expect(judge(sign(PAYLOAD, other), open)).toBe('unsigned');
    expect(judge(changed(sign(PAYLOAD, rsa), 100), open)).toBe('EKEYREJECTED');
  });

  it('with any byte of its signature changed is refused: nothing crashes, nothing passes', () => {
    const signed = signWith(PAYLOAD, rsa, ['-nocerts']);
    const tail = signed.length - PAYLOAD.length;
    const errnos = new Set<string>();
    fc.assert(
      fc.property(fc.nat(tail - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
        const file = signed.slice();
        file[PAYLOAD.length + at]! ^= mask;
        const admission = new Admissions({ ...OPEN_POLICY, ...locked }).admit(caller(), PATH, file);
        if (admission.ok) {
          // Only what nobody reads: the version numbers, and parameters of an algorithm.
          expect(Buffer.from(admission.content).equals(PAYLOAD)).toBe(true);
          errnos.add('read by nobody');
        } else errnos.add(admission.errno);
      }),
      { numRuns: 400 },
    );
    expect([...errnos]).toEqual(expect.arrayContaining(['EBADMSG', 'EKEYREJECTED', 'EPERM']));
  });

  it('of random bytes is refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
        const refused = judge(appended(PAYLOAD, bytes), locked);
        expect(refused).toBe('EBADMSG');
      }),
      { numRuns: 500 },
    );
  });
});

describe('the caller', () => {
  it('without CAP_SYS_BOOT gets EPERM before the file is looked at or measured', () => {
    const admissions = new Admissions(OPEN_POLICY);
    const process = caller();
    process.drop('CAP_SYS_BOOT');
    const before = admissions.ima.text;
    expect(admissions.admit(process, PATH, PAYLOAD)).toMatchObject({ ok: false, errno: 'EPERM' });
    expect(admissions.ima.text).toBe(before);
  });

  it('keeps what it has dropped dropped over a snapshot', () => {
    const process = caller();
    process.drop('CAP_SYS_BOOT');
    const state = process.state();
    const other = caller();
    other.restore(state);
    expect(other.has('CAP_SYS_BOOT')).toBe(false);
    expect(other.has('CAP_SYS_ADMIN')).toBe(true);
  });
});
