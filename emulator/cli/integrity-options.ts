/**
 * How the kernels of a run judge payload files, from the options of the command line.
 *
 * Source: CLI ("run"); emulator/host/integrity.
 * Invariant: a file that an option names is used whole or refused with the option, the file and the rule.
 */
import { Admissions, OPEN_POLICY } from '../host/integrity/admission.js';
import type { IntegrityPolicy } from '../host/integrity/admission.js';
import { DerError } from '../host/integrity/der.js';
import { ImaPolicyError, readPolicy, type ImaRules } from '../host/integrity/ima-policy.js';
import { CliUsageError, shownName } from './errors.js';
import { readPayloadFile } from './payload-file.js';

interface IntegrityOptions {
  readonly keyring: string | undefined;
  readonly lockdown: boolean;
  readonly 'ima-policy': string | undefined;
}

/** The policy of the kernels. @throws CliUsageError; ImaPolicyError with the file. */
export function integrityOf(options: IntegrityOptions): IntegrityPolicy {
  const { keyring, lockdown, 'ima-policy': imaPolicy } = options;
  const certificates = keyring === undefined ? [] : [readPayloadFile(keyring)];
  const policy: IntegrityPolicy = {
    ...OPEN_POLICY,
    certificates,
    lockdown: lockdown ? 'integrity' : 'none',
    ima: imaPolicy === undefined ? OPEN_POLICY.ima : readPolicyFile(imaPolicy),
    // Keys have an end: the kernels' clock is this machine's.
    now: Math.floor(Date.now() / 1000),
  };
  try {
    return new Admissions(policy).policy;
  } catch (cause) {
    if (!(cause instanceof DerError)) throw cause;
    const message = `--keyring ${shownName(keyring ?? '')}: ${cause.message} (rule: certificates in PEM or DER)`;
    throw new CliUsageError('BAD_VALUE', message, { file: keyring, field: 'keyring' }, { cause });
  }
}

function readPolicyFile(file: string): ImaRules {
  const text = Buffer.from(readPayloadFile(file)).toString('utf8');
  try {
    return readPolicy(text);
  } catch (cause) {
    if (!(cause instanceof ImaPolicyError)) throw cause;
    const { line } = cause.details;
    const message = `--ima-policy ${shownName(file)}:${String(line)}: ${cause.message}`;
    throw new ImaPolicyError(cause.code, message, { ...cause.details, file }, { cause });
  }
}
