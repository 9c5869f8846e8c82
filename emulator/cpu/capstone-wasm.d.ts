/** What is used of capstone-wasm: its own types do not resolve under nodenext, and its raw exports have none. */
declare module 'capstone-wasm' {
  /** Fills `exports` with the module's functions; a second call leaves its argument empty. */
  export function loadCapstone(exports: object): Promise<void>;
}
