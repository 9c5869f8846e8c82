/**
 * Which instructions touch x87, MMX, SSE or AVX state, and what they are called.
 *
 * Source: SDM, "Opcode Map". An instruction of this kind in a payload is a finding, so that a name is enough.
 * Invariant: every instruction that reads or writes vector or x87 state has a name here; integer BMI forms have none.
 */
import type { InstructionForm } from './instruction-format.js';

// Names by mandatory prefix: none, 66, F3, F2; `-` for a form that is not there. Names without a dot are for all.
// prettier-ignore
const LEGACY_0F: Readonly<Record<number, string>> = {
  0x0e: 'FEMMS', 0x0f: '3DNOW',
  0x10: 'MOVUPS.MOVUPD.MOVSS.MOVSD', 0x11: 'MOVUPS.MOVUPD.MOVSS.MOVSD',
  0x12: 'MOVLPS.MOVLPD.MOVSLDUP.MOVDDUP', 0x13: 'MOVLPS.MOVLPD', 0x14: 'UNPCKLPS.UNPCKLPD', 0x15: 'UNPCKHPS.UNPCKHPD',
  0x16: 'MOVHPS.MOVHPD.MOVSHDUP', 0x17: 'MOVHPS.MOVHPD',
  0x28: 'MOVAPS.MOVAPD', 0x29: 'MOVAPS.MOVAPD', 0x2a: 'CVTPI2PS.CVTPI2PD.CVTSI2SS.CVTSI2SD', 0x2b: 'MOVNTPS.MOVNTPD',
  0x2c: 'CVTTPS2PI.CVTTPD2PI.CVTTSS2SI.CVTTSD2SI', 0x2d: 'CVTPS2PI.CVTPD2PI.CVTSS2SI.CVTSD2SI',
  0x2e: 'UCOMISS.UCOMISD', 0x2f: 'COMISS.COMISD',
  0x50: 'MOVMSKPS.MOVMSKPD', 0x51: 'SQRTPS.SQRTPD.SQRTSS.SQRTSD', 0x52: 'RSQRTPS.-.RSQRTSS', 0x53: 'RCPPS.-.RCPSS',
  0x54: 'ANDPS.ANDPD', 0x55: 'ANDNPS.ANDNPD', 0x56: 'ORPS.ORPD', 0x57: 'XORPS.XORPD',
  0x58: 'ADDPS.ADDPD.ADDSS.ADDSD', 0x59: 'MULPS.MULPD.MULSS.MULSD', 0x5a: 'CVTPS2PD.CVTPD2PS.CVTSS2SD.CVTSD2SS',
  0x5b: 'CVTDQ2PS.CVTPS2DQ.CVTTPS2DQ', 0x5c: 'SUBPS.SUBPD.SUBSS.SUBSD', 0x5d: 'MINPS.MINPD.MINSS.MINSD',
  0x5e: 'DIVPS.DIVPD.DIVSS.DIVSD', 0x5f: 'MAXPS.MAXPD.MAXSS.MAXSD',
  0x60: 'PUNPCKLBW', 0x61: 'PUNPCKLWD', 0x62: 'PUNPCKLDQ', 0x63: 'PACKSSWB', 0x64: 'PCMPGTB', 0x65: 'PCMPGTW',
  0x66: 'PCMPGTD', 0x67: 'PACKUSWB', 0x68: 'PUNPCKHBW', 0x69: 'PUNPCKHWD', 0x6a: 'PUNPCKHDQ', 0x6b: 'PACKSSDW',
  0x6c: 'PUNPCKLQDQ', 0x6d: 'PUNPCKHQDQ', 0x6e: 'MOVD', 0x6f: 'MOVQ.MOVDQA.MOVDQU',
  0x70: 'PSHUFW.PSHUFD.PSHUFHW.PSHUFLW', 0x71: 'PSHIFTW', 0x72: 'PSHIFTD', 0x73: 'PSHIFTQ',
  0x74: 'PCMPEQB', 0x75: 'PCMPEQW', 0x76: 'PCMPEQD', 0x77: 'EMMS',
  0x7c: '-.HADDPD.-.HADDPS', 0x7d: '-.HSUBPD.-.HSUBPS', 0x7e: 'MOVD.MOVD.MOVQ', 0x7f: 'MOVQ.MOVDQA.MOVDQU',
  0xc2: 'CMPPS.CMPPD.CMPSS.CMPSD', 0xc4: 'PINSRW', 0xc5: 'PEXTRW', 0xc6: 'SHUFPS.SHUFPD',
  0xd0: '-.ADDSUBPD.-.ADDSUBPS', 0xd1: 'PSRLW', 0xd2: 'PSRLD', 0xd3: 'PSRLQ', 0xd4: 'PADDQ', 0xd5: 'PMULLW',
  0xd6: '-.MOVQ.MOVQ2DQ.MOVDQ2Q', 0xd7: 'PMOVMSKB', 0xd8: 'PSUBUSB', 0xd9: 'PSUBUSW', 0xda: 'PMINUB', 0xdb: 'PAND',
  0xdc: 'PADDUSB', 0xdd: 'PADDUSW', 0xde: 'PMAXUB', 0xdf: 'PANDN',
  0xe0: 'PAVGB', 0xe1: 'PSRAW', 0xe2: 'PSRAD', 0xe3: 'PAVGW', 0xe4: 'PMULHUW', 0xe5: 'PMULHW',
  0xe6: '-.CVTTPD2DQ.CVTDQ2PD.CVTPD2DQ', 0xe7: 'MOVNTQ.MOVNTDQ', 0xe8: 'PSUBSB', 0xe9: 'PSUBSW', 0xea: 'PMINSW',
  0xeb: 'POR', 0xec: 'PADDSB', 0xed: 'PADDSW', 0xee: 'PMAXSW', 0xef: 'PXOR',
  0xf0: '-.-.-.LDDQU', 0xf1: 'PSLLW', 0xf2: 'PSLLD', 0xf3: 'PSLLQ', 0xf4: 'PMULUDQ', 0xf5: 'PMADDWD', 0xf6: 'PSADBW',
  0xf7: 'MASKMOVQ.MASKMOVDQU', 0xf8: 'PSUBB', 0xf9: 'PSUBW', 0xfa: 'PSUBD', 0xfb: 'PSUBQ', 0xfc: 'PADDB', 0xfd: 'PADDW',
  0xfe: 'PADDD',
};

// prettier-ignore
const LEGACY_0F38: Readonly<Record<number, string>> = {
  0x00: 'PSHUFB', 0x01: 'PHADDW', 0x02: 'PHADDD', 0x03: 'PHADDSW', 0x04: 'PMADDUBSW', 0x05: 'PHSUBW', 0x06: 'PHSUBD',
  0x07: 'PHSUBSW', 0x08: 'PSIGNB', 0x09: 'PSIGNW', 0x0a: 'PSIGND', 0x0b: 'PMULHRSW', 0x10: 'PBLENDVB', 0x14: 'BLENDVPS',
  0x15: 'BLENDVPD', 0x17: 'PTEST', 0x1c: 'PABSB', 0x1d: 'PABSW', 0x1e: 'PABSD', 0x20: 'PMOVSXBW', 0x21: 'PMOVSXBD',
  0x22: 'PMOVSXBQ', 0x23: 'PMOVSXWD', 0x24: 'PMOVSXWQ', 0x25: 'PMOVSXDQ', 0x28: 'PMULDQ', 0x29: 'PCMPEQQ',
  0x2a: 'MOVNTDQA', 0x2b: 'PACKUSDW', 0x30: 'PMOVZXBW', 0x31: 'PMOVZXBD', 0x32: 'PMOVZXBQ', 0x33: 'PMOVZXWD',
  0x34: 'PMOVZXWQ', 0x35: 'PMOVZXDQ', 0x37: 'PCMPGTQ', 0x38: 'PMINSB', 0x39: 'PMINSD', 0x3a: 'PMINUW', 0x3b: 'PMINUD',
  0x3c: 'PMAXSB', 0x3d: 'PMAXSD', 0x3e: 'PMAXUW', 0x3f: 'PMAXUD', 0x40: 'PMULLD', 0x41: 'PHMINPOSUW',
  0xc8: 'SHA1NEXTE', 0xc9: 'SHA1MSG1', 0xca: 'SHA1MSG2', 0xcb: 'SHA256RNDS2', 0xcc: 'SHA256MSG1', 0xcd: 'SHA256MSG2',
  0xcf: 'GF2P8MULB', 0xdb: 'AESIMC', 0xdc: 'AESENC', 0xdd: 'AESENCLAST', 0xde: 'AESDEC', 0xdf: 'AESDECLAST',
};

/** BMI1, BMI2 and CMPccXADD: VEX instructions on general registers alone. */
const VEX_INTEGER_38 = new Set([0xf2, 0xf3, 0xf5, 0xf6, 0xf7]);

const PREFIX_COLUMN = { 0: 0, 0x66: 1, 0xf3: 2, 0xf2: 3 } as const;

/** The mnemonic of an instruction on vector or x87 state; null for every other one. */
export function fpuName(form: InstructionForm): string | null {
  if (form.encoding === 'evex') return `EVEX_${form.map.toUpperCase()}_${hexByte(form.opcode)}`;
  if (form.encoding === 'vex') {
    const isInteger =
      (form.map === '0f38' &&
        (VEX_INTEGER_38.has(form.opcode) || (form.opcode >= 0xe0 && form.opcode <= 0xef))) ||
      (form.map === '0f3a' && form.opcode === 0xf0);
    if (isInteger) return null;
    const legacy = legacyName(form);
    return legacy === null || legacy === 'UNDEFINED_SSE'
      ? `VEX_${form.map.toUpperCase()}_${hexByte(form.opcode)}`
      : `V${legacy}`;
  }
  return legacyName(form);
}

function legacyName(form: InstructionForm): string | null {
  switch (form.map) {
    case 'one':
      if (form.opcode === 0x9b) return 'FWAIT';
      return form.opcode >= 0xd8 && form.opcode <= 0xdf
        ? `X87_${hexByte(form.opcode)}_${form.regBits.toString()}`
        : null;
    case '0f': {
      const names = LEGACY_0F[form.opcode];
      if (names === undefined) return null;
      const columns = names.split('.');
      const name =
        columns.length === 1 ? columns[0]! : (columns[PREFIX_COLUMN[form.mandatory]] ?? '-');
      return name === '-' ? 'UNDEFINED_SSE' : name;
    }
    case '0f38':
      if (form.opcode >= 0xf0 || (form.opcode >= 0x80 && form.opcode <= 0x8b)) return null;
      return LEGACY_0F38[form.opcode] ?? 'UNDEFINED_SSE';
    case '0f3a':
      return `SSE_0F3A_${hexByte(form.opcode)}`;
  }
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, '0').toUpperCase();
}
