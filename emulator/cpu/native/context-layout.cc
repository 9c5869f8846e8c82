#include "context-layout.h"

#include <cstring>
#include <stdexcept>
#include <vector>

#include "physical-map.h"

namespace caretaker {
namespace {

constexpr uint64_t kTables = 0x10000;  // four tables: one page each
constexpr uint64_t kCode = 0x1000;     // mapped read-only
constexpr uint64_t kAbsent = 0x5000;   // not mapped in the tables

void stop_at_interrupt(uc_engine* uc, uint32_t, void*) { uc_emu_stop(uc); }

class Probe {
 public:
  Probe() {
    check(uc_open(UC_ARCH_X86, UC_MODE_64, &uc_), "uc_open");
    check(uc_mem_map(uc_, 0, 0x20000, UC_PROT_ALL), "uc_mem_map");
    for (uint64_t level = 0; level < 3; level++) {
      write_u64(kTables + level * 0x1000, (kTables + (level + 1) * 0x1000) | 0x23);
    }
    write_u64(kTables + 0x3000 + 8 * (kCode >> 12), kCode | 0x21);
    const uint8_t code[] = {0x48, 0x8b, 0x03, 0x48, 0x89, 0x03};  // mov rax,[rbx]; mov [rbx],rax
    check(uc_mem_write(uc_, kCode, code, sizeof code), "uc_mem_write");
    uc_hook hook;
    check(uc_hook_add(uc_, &hook, UC_HOOK_INTR, reinterpret_cast<void*>(stop_at_interrupt),
                      nullptr, 1, 0),
          "uc_hook_add");
    set(UC_X86_REG_CR4, kCr4);
    set(UC_X86_REG_CR3, kTables);
    set(UC_X86_REG_CR0, kCr0);
    clean_ = context();
  }
  ~Probe() {
    for (uc_context* context : contexts_) uc_context_free(context);
    uc_close(uc_);
  }

  // The context after the instruction at `rip` has faulted on `address`.
  const uint8_t* fault(uint64_t rip, uint64_t address) {
    check(uc_context_restore(uc_, clean_), "uc_context_restore");
    set(UC_X86_REG_RBX, address);
    uc_emu_start(uc_, rip, 0, 0, 0);
    return reinterpret_cast<const uint8_t*>(context());
  }
  const uint8_t* clean() const { return reinterpret_cast<const uint8_t*>(clean_); }
  size_t size() const { return uc_context_size(uc_); }

 private:
  void write_u64(uint64_t address, uint64_t value) {
    check(uc_mem_write(uc_, address, &value, sizeof value), "uc_mem_write");
  }
  void set(int id, uint64_t value) { check(uc_reg_write(uc_, id, &value), "uc_reg_write"); }
  uc_context* context() {
    uc_context* made;
    check(uc_context_alloc(uc_, &made), "uc_context_alloc");
    contexts_.push_back(made);
    check(uc_context_save(uc_, made), "uc_context_save");
    return made;
  }

  uc_engine* uc_ = nullptr;
  uc_context* clean_ = nullptr;
  std::vector<uc_context*> contexts_;
};

int32_t int_at(const uint8_t* bytes, size_t offset) {
  int32_t value;
  std::memcpy(&value, bytes + offset, sizeof value);
  return value;
}

ContextLayout probe() {
  Probe probe;
  const uint8_t* read = probe.fault(kCode, kAbsent);
  const uint8_t* write = probe.fault(kCode + 3, kAbsent);
  const uint8_t* denied = probe.fault(kCode + 3, kCode);
  ContextLayout layout{0, 0};
  int found_old = 0;
  int found_error = 0;
  for (size_t at = 0; at + 4 <= probe.size(); at += 4) {
    const int32_t values[] = {int_at(read, at), int_at(write, at), int_at(denied, at)};
    if (int_at(probe.clean(), at) == -1 && values[0] == 14 && values[1] == 14 && values[2] == 14) {
      layout.old_exception = at;
      found_old++;
    }
    // Error codes: P is bit 0, W is bit 1.
    if (int_at(probe.clean(), at) == 0 && values[0] == 0 && values[1] == 2 && values[2] == 3) {
      layout.error_code = at;
      found_error++;
    }
  }
  if (found_old != 1 || found_error != 1) {
    throw std::runtime_error("this libunicorn's saved context is not understood: " +
                             std::to_string(found_old) + " and " + std::to_string(found_error) +
                             " places");
  }
  return layout;
}

}  // namespace

const ContextLayout& context_layout() {
  static const ContextLayout layout = probe();
  return layout;
}

}  // namespace caretaker
