/** Base of every error this project throws on purpose: `code` for tests and tools, `details` for people. */
export class HarnessError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: Code,
    message: string,
    details: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    this.details = details;
  }
}

/** A bug of ours, never a user's mistake and never caught below cli/. */
export class HarnessBug extends Error {
  override readonly name = 'HarnessBug';
}

/** Ends a switch over a closed union: the compiler proves that it is never reached. */
export function unreachable(value: never): never {
  throw new HarnessBug(`unreachable: ${JSON.stringify(value)}`);
}
