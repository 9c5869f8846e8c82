// Unicorn's register numbers in the order of the shared register file.
#ifndef CARETAKER_ENGINE_REGISTERS_H
#define CARETAKER_ENGINE_REGISTERS_H

#include <unicorn/unicorn.h>

namespace caretaker {

constexpr int kRegisterIds[20] = {
    UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX,    UC_X86_REG_RSP,
    UC_X86_REG_RBP, UC_X86_REG_RSI, UC_X86_REG_RDI, UC_X86_REG_R8,     UC_X86_REG_R9,
    UC_X86_REG_R10, UC_X86_REG_R11, UC_X86_REG_R12, UC_X86_REG_R13,    UC_X86_REG_R14,
    UC_X86_REG_R15, UC_X86_REG_RIP, UC_X86_REG_EFLAGS, UC_X86_REG_FS_BASE, UC_X86_REG_GS_BASE,
};

constexpr uint64_t kTrapFlag = 0x100;
// CF PF AF ZF SF OF.
constexpr uint64_t kArithmeticFlags = 0x8d5;

inline bool is_canonical(uint64_t address) {
  const int64_t top = static_cast<int64_t>(address) >> 47;
  return top == 0 || top == -1;
}

}  // namespace caretaker

#endif
