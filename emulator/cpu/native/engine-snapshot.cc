// What an engine's snapshot needs of the native side: where the flow of blocks stands, and the vector and x87 state.
//
// Invariant: a restored engine goes on as the one it was taken from, whatever ran in between; registers, counters and
// memory are JavaScript's. Unicorn's CPU has no AVX, so that XMM is all there is of the vector registers.
#include <cstring>

#include "engine-registers.h"
#include "engine.h"

namespace caretaker {
namespace {

// Numbers of JavaScript hold every address and count but this one.
double number_or_none(uint64_t value) {
  return value == UINT64_MAX ? -1 : static_cast<double>(value);
}

uint64_t value_or_none(double number) {
  return number < 0 ? UINT64_MAX : static_cast<uint64_t>(number);
}

struct ExtendedRegister {
  int id;
  size_t bytes;
};

// The status word with its top of stack comes first: Unicorn may number ST0 to ST7 from it.
constexpr ExtendedRegister kX87Registers[] = {
    {UC_X86_REG_FPSW, 2}, {UC_X86_REG_FPCW, 2}, {UC_X86_REG_FPTAG, 2}, {UC_X86_REG_MXCSR, 4},
    {UC_X86_REG_ST0, 10}, {UC_X86_REG_ST1, 10}, {UC_X86_REG_ST2, 10},  {UC_X86_REG_ST3, 10},
    {UC_X86_REG_ST4, 10}, {UC_X86_REG_ST5, 10}, {UC_X86_REG_ST6, 10},  {UC_X86_REG_ST7, 10},
};
constexpr size_t kX87Slot = 16;
constexpr size_t kXmmBytes = 16;
static_assert(16 * kXmmBytes + sizeof(kX87Registers) / sizeof(ExtendedRegister) * kX87Slot ==
              Engine::kExtendedBytes);

}  // namespace

void Engine::save_flow(double* words) const {
  words[0] = number_or_none(previous_end_);
  words[1] = number_or_none(previous_resume_);
  words[2] = previous_location_;
  words[3] = number_or_none(inline_resume_);
  words[4] = number_or_none(skipped_breakpoint_);
  words[5] = static_cast<double>(skipped_at_count_);
  words[6] = number_or_none(split_base_);
  words[7] = static_cast<double>(split_left_);
}

void Engine::restore_flow(const double* words) {
  previous_end_ = value_or_none(words[0]);
  previous_resume_ = value_or_none(words[1]);
  previous_location_ = static_cast<uint32_t>(words[2]);
  inline_resume_ = value_or_none(words[3]);
  skipped_breakpoint_ = value_or_none(words[4]);
  skipped_at_count_ = static_cast<uint64_t>(words[5]);
  split_base_ = value_or_none(words[6]);
  split_left_ = static_cast<uint64_t>(words[7]);
}

void Engine::read_vectors(uint8_t* bytes) {
  for (int index = 0; index < 16; index++) {
    check(uc_reg_read(uc_, UC_X86_REG_XMM0 + index, bytes + 16 * index), "uc_reg_read");
  }
}

void Engine::write_vectors(const uint8_t* bytes) {
  is_extended_used_ = true;
  for (int index = 0; index < 16; index++) {
    check(uc_reg_write(uc_, UC_X86_REG_XMM0 + index, bytes + 16 * index), "uc_reg_write");
  }
}

void Engine::read_extended(uint8_t* bytes) {
  read_vectors(bytes);
  bytes += 16 * kXmmBytes;
  for (const ExtendedRegister& each : kX87Registers) {
    uint8_t value[kX87Slot] = {};
    check(uc_reg_read(uc_, each.id, value), "uc_reg_read");
    std::memset(bytes, 0, kX87Slot);
    std::memcpy(bytes, value, each.bytes);
    bytes += kX87Slot;
  }
}

void Engine::write_extended(const uint8_t* bytes) {
  write_vectors(bytes);
  bytes += 16 * kXmmBytes;
  for (const ExtendedRegister& each : kX87Registers) {
    check(uc_reg_write(uc_, each.id, bytes), "uc_reg_write");
    bytes += kX87Slot;
  }
}

}  // namespace caretaker
