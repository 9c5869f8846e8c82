/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Global symbols of the assembly files: hidden, as compiler.h makes those of C.
 */
/* clang-format off */
	/* For debuggers only: nothing unwinds at run time. */
	.cfi_sections .debug_frame

	.macro FUNCTION name
	.globl	\name
	.hidden	\name
	.type	\name, @function
	.balign	16
\name:
	.cfi_startproc
	.endm

	.macro END
	.cfi_endproc
	.endm

	/* Nobody called the code from here on: RSP is all that a caller left. */
	.macro OUTERMOST
	.cfi_def_cfa rsp, 0
	.cfi_undefined rip
	.endm

	.macro LABEL name
	.globl	\name
	.hidden	\name
\name:
	.endm
