// One linter: type-aware rules that catch this project's own hazards (a bigint 0n in a condition,
// `addr || x`, `0x${addr}`, a switch that forgets a case), and the rules that keep libraries behind one importer.
import js from '@eslint/js';
import tseslint from 'typescript-eslint';

const onlyImporter = (name, home) => ({ name, message: `${name} has one importer: ${home}` });
const libraries = [
  onlyImporter('capstone-wasm', 'emulator/cpu/disassembler.ts'),
  onlyImporter('elfy', 'loader/elf.ts'),
];
const without = (name) => libraries.filter((library) => library.name !== name);

export default tseslint.config(
  {
    ignores: [
      'dist',
      'build',
      '.unicorn',
      'coverage',
      'caretaker-payload',
      'bin',
      '**/*.mjs',
      '*.config.js',
    ],
  },
  js.configs.recommended,
  tseslint.configs.strictTypeChecked,
  {
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    languageOptions: {
      parserOptions: { project: './tsconfig.lint.json', tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      eqeqeq: 'error',
      'no-console': 'error',
      'no-restricted-imports': ['error', { paths: libraries }],
      '@typescript-eslint/strict-boolean-expressions': ['error', { allowNumber: false }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/prefer-nullish-coalescing': 'error',
      '@typescript-eslint/require-array-sort-compare': 'error',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unnecessary-condition': 'off',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
    },
  },
  {
    files: ['emulator/cpu/disassembler.ts'],
    rules: { 'no-restricted-imports': ['error', { paths: without('capstone-wasm') }] },
  },
  {
    files: ['loader/elf.ts'],
    rules: { 'no-restricted-imports': ['error', { paths: without('elfy') }] },
  },
  { files: ['emulator/cli/**'], rules: { 'no-console': 'off' } },
);
