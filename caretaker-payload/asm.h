/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Global symbols of the assembly files: hidden, as compiler.h makes those of C.
 */
/* clang-format off */
	.macro FUNCTION name
	.globl	\name
	.hidden	\name
	.type	\name, @function
	.balign	16
\name:
	.endm

	.macro LABEL name
	.globl	\name
	.hidden	\name
\name:
	.endm
