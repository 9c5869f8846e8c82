/**
 * Who may install which file as a Caretaker: capability, measurement, signature, appraisal, in that order.
 *
 * 1. The caller needs CAP_SYS_BOOT, as for kexec_file_load(): EPERM.
 * 2. The file is measured as it is, before anything looks into it.
 * 3. A signature is verified if there is one; a bad one is refused whatever the policy.
 * 4. Without a good one: refused when signatures are enforced (EKEYREJECTED), under lockdown (EPERM), or when the IMA
 *    policy appraises (EACCES). Otherwise the kernel is tainted and goes on.
 *
 * Source: the RFC, "Compromised Caretaker"; Linux kernel/module/signing.c: module_sig_check(), whose order and errnos
 * these are; security/lockdown/lockdown.c.
 * Invariant: what comes out is the content that was signed, without its signature.
 */
import type { ErrnoName } from '../../../abi/luo.js';
import type { Process } from '../process.js';
import { Ima } from './ima.js';
import type { ImaRules } from './ima-policy.js';
import { Keyring } from './keyring.js';
import { splitSignature } from './module-signature.js';
import { verifyPkcs7 } from './pkcs7.js';

/** How a kernel judges payload files. */
export interface IntegrityPolicy {
  /** Certificates in PEM or DER. */
  readonly certificates: readonly Uint8Array[];
  readonly lockdown: 'none' | 'integrity';
  /** module.sig_enforce. */
  readonly enforce: boolean;
  readonly ima: ImaRules;
  /** The kernel's clock, in seconds since 1970: keys have an end. */
  readonly now: number;
}

/** A kernel of a machine without Secure Boot: it measures, and takes what is not signed. */
export const OPEN_POLICY: IntegrityPolicy = {
  certificates: [],
  lockdown: 'none',
  enforce: false,
  ima: { measure: true, appraise: false },
  now: 0,
};

/** A file that may be installed, or why not. */
export type Admission =
  | {
      readonly ok: true;
      readonly content: Uint8Array;
      /** Who signed it; null for an unsigned one, which taints the kernel. */
      readonly signer: string | null;
    }
  | { readonly ok: false; readonly errno: ErrnoName; readonly why: string };

/** A signature that could not be judged, as opposed to one that is wrong. */
const UNDECIDED: ReadonlySet<ErrnoName> = new Set(['ENODATA', 'ENOPKG', 'ENOKEY']);

export class Admissions {
  readonly policy: IntegrityPolicy;
  readonly ima = new Ima();
  readonly #keyring = new Keyring();

  /** @throws DerError for a certificate that is none. */
  constructor(policy: IntegrityPolicy) {
    this.policy = policy;
    for (const certificate of policy.certificates) this.#keyring.add(certificate);
  }

  /** Judges a file that `caller` wants to install. Errnos: EPERM, EKEYREJECTED, EBADMSG, EKEYEXPIRED, EACCES. */
  admit(caller: Process, path: string, file: Uint8Array): Admission {
    if (!caller.has('CAP_SYS_BOOT')) {
      return { ok: false, errno: 'EPERM', why: `${caller.name} has no CAP_SYS_BOOT` };
    }
    if (this.policy.ima.measure) this.ima.measure(path, file);
    const judged = this.#judge(file);
    if (judged.ok || !UNDECIDED.has(judged.errno)) return judged;
    const { enforce, lockdown, ima } = this.policy;
    const refused = (errno: ErrnoName, by: string): Admission => {
      return { ok: false, errno, why: `${judged.why}; ${by}` };
    };
    if (enforce) return refused('EKEYREJECTED', 'signatures are enforced');
    if (lockdown !== 'none') return refused('EPERM', 'the kernel is locked down');
    if (ima.appraise) return refused('EACCES', 'the IMA policy appraises');
    return { ok: true, content: contentOf(file), signer: null };
  }

  #judge(file: Uint8Array): Admission {
    const split = splitSignature(file);
    if (!split.ok) {
      const why = split.errno === 'ENODATA' ? 'the file is not signed' : 'the signature is none';
      return { ok: false, errno: split.errno, why };
    }
    const { content, signature } = split.value;
    const verdict = verifyPkcs7(signature, content, this.#keyring, this.policy.now);
    return verdict.ok ? { ok: true, content, signer: verdict.signer } : verdict;
  }
}

/** An undecided signature is no part of the image. */
function contentOf(file: Uint8Array): Uint8Array {
  const split = splitSignature(file);
  return split.ok ? split.value.content : file;
}
