/** Rules for single tracked files: no binaries, nothing of one machine, a first line that says what the file is. */

/** Whether the bytes begin as an ELF file, an archive, a WebAssembly module or an npm or Python package do. */
export function isBinary(bytes: Uint8Array): boolean {
  const magics = [
    [0x7f, 0x45, 0x4c, 0x46],
    [0x21, 0x3c, 0x61, 0x72, 0x63, 0x68, 0x3e, 0x0a],
    [0x00, 0x61, 0x73, 0x6d],
    [0x1f, 0x8b],
    [0x50, 0x4b, 0x03, 0x04],
  ];
  return (
    bytes.subarray(0, 8000).includes(0) ||
    magics.some((magic) => magic.every((byte, index) => bytes[index] === byte))
  );
}

// Written in pieces, so that this file does not break its own rule.
const MACHINE_FOLDERS = ['tmp', 'work', 'home', 'root', 'Users'].map((name) => `/${name}/`);

/** The folders of one machine that a text names, with their lines. */
export function machinePaths(text: string): string[] {
  return text
    .split('\n')
    .flatMap((line, index) =>
      MACHINE_FOLDERS.filter((folder) => new RegExp(`(^|[^\\w.})-])${folder}\\w`).test(line)).map(
        (folder) => `${index + 1}: ${folder}`,
      ),
    );
}

/** Whether a TypeScript source begins with a comment of at least one sentence about itself. */
export function hasHeader(text: string): boolean {
  const [comment = ''] = /^(\/\*\*[\s\S]*?\*\/|(\/\/.*\n)+)/.exec(text) ?? [];
  const words = comment.split(/[^\w'-]+/).filter(Boolean);
  return words.length >= 4;
}

/** Hosts that package-lock.json would have everybody download from. */
export function lockedHosts(lock: string): string[] {
  return [...lock.matchAll(/"resolved":\s*"([^"]+)"/g)].map((match) => match[1]!);
}
