#include "engine.h"

#include <algorithm>
#include <cstring>

#include "context-layout.h"
#include "engine-registers.h"

namespace caretaker {
namespace {

constexpr uint64_t kMsrEfer = 0xc0000080;
constexpr uint64_t kEferLongMode = 0x500;
constexpr uint64_t kEferNoExecute = 0x800;

bool is_contributory_or_page_fault(uint32_t vector) {
  return vector == 0 || vector == 8 || (vector >= 10 && vector <= 14);
}

}  // namespace

Engine::Engine(std::shared_ptr<SharedMemory> memory, const SharedBuffers& buffers)
    : memory_(std::move(memory)), shared_(buffers) {
  unsigned major, minor;
  uc_version(&major, &minor);
  is_2_0_ = major == 2 && minor == 0;
  context_layout();
  check(uc_open(UC_ARCH_X86, UC_MODE_64, &uc_), "uc_open");
  // A CPU with the instructions that compilers emit for today's machines; CPUID itself is the model's.
  check(uc_ctl_set_cpu_model(uc_, UC_CPU_X86_HASWELL), "uc_ctl_set_cpu_model");
#if UC_API_MINOR >= 1
  // A payload is small; the default reserves a gibibyte for each engine.
  check(uc_ctl_set_tcg_buffer_size(uc_, 32u << 20), "uc_ctl_set_tcg_buffer_size");
#endif
  map_ = std::make_unique<PhysicalMap>(uc_, memory_->bytes(), memory_->size());
  check(uc_mem_map_ptr(uc_, TableArena::kBase, TableArena::kSize, UC_PROT_READ | UC_PROT_WRITE,
                       arena_.bytes()),
        "uc_mem_map_ptr");
  check(uc_mem_map(uc_, kFlushPage, kPageSize, UC_PROT_READ | UC_PROT_WRITE), "uc_mem_map");
  check(uc_context_alloc(uc_, &context_), "uc_context_alloc");
  add_hooks();

  set_register(UC_X86_REG_CR4, kCr4);
  if (!is_2_0_) {
    uc_x86_msr efer{kMsrEfer, kEferLongMode | kEferNoExecute};
    check(uc_reg_write(uc_, UC_X86_REG_MSR, &efer), "EFER.NXE");
  }
  empty_ = std::make_unique<PageTables>(arena_, false);
  active_ = empty_.get();
  set_register(UC_X86_REG_CR3, empty_->root());
  set_register(UC_X86_REG_CR0, kCr0);
  for (size_t index = 0; index < held_.size(); index++) {
    held_[index] = get_register(kRegisterIds[index]);
  }
  held_[slot::kRflags] &= 0xffffffff;
}

Engine::~Engine() {
  if (context_ != nullptr) uc_context_free(context_);
  if (uc_ != nullptr) uc_close(uc_);
}

void Engine::add_hooks() {
  uc_hook hook;
  const auto add = [&](int type, void* callback) {
    check(uc_hook_add(uc_, &hook, type, callback, this, 1, 0), "uc_hook_add");
  };
  add(UC_HOOK_BLOCK, reinterpret_cast<void*>(block_hook));
  add(UC_HOOK_INTR, reinterpret_cast<void*>(interrupt_hook));
  // From 2.1 on the page tables say all; and a memory hook of any kind over a page would keep its stores slow.
  if (is_2_0_) {
    add(UC_HOOK_MEM_READ_UNMAPPED | UC_HOOK_MEM_WRITE_UNMAPPED | UC_HOOK_MEM_FETCH_UNMAPPED,
        reinterpret_cast<void*>(unmapped_hook));
    add(UC_HOOK_MEM_FETCH_PROT, reinterpret_cast<void*>(fetch_hook));
  }
  check(uc_hook_add(uc_, &hook, UC_HOOK_INSN, reinterpret_cast<void*>(syscall_hook), this, 1, 0,
                    UC_X86_INS_SYSCALL),
        "uc_hook_add");
}

void Engine::set_register(int id, uint64_t value) {
  check(uc_reg_write(uc_, id, &value), "uc_reg_write");
}

uint64_t Engine::get_register(int id) {
  uint64_t value = 0;
  check(uc_reg_read(uc_, id, &value), "uc_reg_read");
  return value;
}

// ---- running ----------------------------------------------------------------------------------------------------

Stop Engine::run(double limit) {
  executed_ = static_cast<uint64_t>(shared_.counters[slot::kInstructions]);
  blocks_ = static_cast<uint64_t>(shared_.counters[slot::kBlocks]);
  stores_ = static_cast<uint64_t>(shared_.counters[slot::kStores]);
  trace_head_ = static_cast<uint32_t>(shared_.counters[slot::kTraceHead]) % kTraceEntries;
  limit_ = limit >= 9e15 ? UINT64_MAX : executed_ + static_cast<uint64_t>(limit);
  cet_ = static_cast<uint8_t>(shared_.counters[slot::kCet]);
  is_waiting_ = shared_.counters[slot::kTracker] != 0;
  // Once the limit lies in the block that comes next, the rest goes one by one; a single step needs no look at it.
  bool is_near = limit_ - executed_ <= 1;
  for (;;) {
    const uint64_t rip = shared_.registers[slot::kRip];
    if (executed_ >= limit_) return finish(Stop::kLimit);
    if (!is_canonical(rip)) {
      memory_stop(kFetch, kNonCanonical, rip, 1);
      return finish(stop_);
    }
    const bool is_breakpoint = !breakpoints_.empty() && breakpoints_.count(rip) != 0;
    if (is_breakpoint && !is_skipped(rip)) {
      skipped_breakpoint_ = rip;
      skipped_at_count_ = executed_;
      return finish(Stop::kBreakpoint);
    }
    if (is_waiting_ && is_breakpoint && !accepts_target(rip)) return finish((branch_stop(), stop_));
    const Outcome outcome = is_breakpoint ? step_over_breakpoint() : go(is_near);
    if (outcome == Outcome::kStopped) return finish(stop_);
    if (outcome == Outcome::kNear) is_near = true;
  }
}

Engine::Outcome Engine::step_over_breakpoint() {
  CodeRange* range = code_at(shared_.registers[slot::kRip]);
  if (range == nullptr) return go(true);
  const CodeSite* site = range->site(shared_.registers[slot::kRip] - range->base);
  if (site == nullptr) return step_with(1, nullptr);
  if (site->how != Inline::kNone) return step_with(site->length, nullptr);
  shared_.info[slot::kSite] = site->id;
  return stopped(Stop::kSite);
}

Stop Engine::step_native() {
  is_extended_used_ = true;
  executed_ = static_cast<uint64_t>(shared_.counters[slot::kInstructions]);
  blocks_ = static_cast<uint64_t>(shared_.counters[slot::kBlocks]);
  stores_ = static_cast<uint64_t>(shared_.counters[slot::kStores]);
  limit_ = UINT64_MAX;
  cet_ = 0;
  is_waiting_ = false;
  const uint64_t rip = shared_.registers[slot::kRip];
  CodeRange* range = code_at(rip);
  if (range == nullptr) {
    memory_stop(kFetch, kUnmapped, rip, 1);
    return finish(stop_);
  }
  const uint64_t length = range->next_boundary(rip - range->base) - (rip - range->base);
  const Outcome outcome = step_with(length, memory_->bytes() + rip);
  return finish(outcome == Outcome::kStopped ? stop_ : Stop::kLimit);
}

// Runs one instruction with other bytes in the copy: the true ones, or with null those without a breakpoint.
Engine::Outcome Engine::step_with(uint64_t length, const uint8_t* bytes) {
  const uint64_t rip = shared_.registers[slot::kRip];
  CodeRange* range = code_at(rip);
  const uint64_t offset = rip - range->base;
  uint8_t* copy = range->copy() + offset;
  uint8_t saved[16];
  length = std::min<uint64_t>(length, std::min<uint64_t>(sizeof saved, range->size - offset));
  std::memcpy(saved, copy, length);
  if (bytes != nullptr) {
    std::memcpy(copy, bytes, length);
  } else {
    range->write_running(offset, static_cast<uint32_t>(length), memory_->bytes() + rip);
  }
  drop_translations(rip, length);
  const Outcome outcome = go(true);
  std::memcpy(copy, saved, length);
  drop_translations(rip, length);
  return outcome;
}

Stop Engine::finish(Stop stop) {
  shared_.counters[slot::kInstructions] = static_cast<double>(executed_);
  shared_.counters[slot::kBlocks] = static_cast<double>(blocks_);
  shared_.counters[slot::kStores] = static_cast<double>(stores_);
  shared_.counters[slot::kTraceHead] = trace_head_;
  shared_.counters[slot::kTracker] = is_waiting_ ? 1 : 0;
  return stop;
}

Engine::Outcome Engine::stopped(Stop stop) {
  stop_ = stop;
  return Outcome::kStopped;
}

// One stay inside Unicorn, of one instruction when `step`.
Engine::Outcome Engine::go(bool step) {
  const bool own_trap_flag = (shared_.registers[slot::kRflags] & kTrapFlag) != 0;
  pending_ = Pending::kNone;
  refused_.is_set = false;
  block_.range = nullptr;
  if (is_map_changed_) {
    // Unicorn walks the page tables when its map changes, and keeps the page fault that it may meet.
    int32_t ignored;
    forget_exception(&ignored);
    is_map_changed_ = false;
  }
  load_registers(step);
  // `until` 0 is never translated: no address space maps page 0 executable without a stop of its own.
  const uc_err error = uc_emu_start(uc_, shared_.registers[slot::kRip], 0, 0, 0);
  int32_t error_code = 0;
  if (pending_ == Pending::kInterrupt && is_contributory_or_page_fault(pending_vector_)) {
    forget_exception(&error_code);
    shared_.info[slot::kErrorCode] = static_cast<uint64_t>(error_code);
  }
  store_registers(step && !own_trap_flag);
  if (!filler_pages_.empty()) {
    for (const uint64_t page : filler_pages_) uc_mem_unmap(uc_, page, kPageSize);
    filler_pages_.clear();
    is_map_changed_ = true;
  }
  uint64_t& rip = shared_.registers[slot::kRip];
  switch (pending_) {
    case Pending::kNear: {
      rip = pending_address_;
      CodeRange* range = code_at(rip);
      if ((range->at(rip - range->base).flags & kBoundary) == 0) {
        rip = range->base + range->next_boundary(rip - range->base);
      }
      return Outcome::kNear;
    }
    case Pending::kMisaligned:
      rip = pending_address_;
      return stopped(Stop::kInvalid);
    case Pending::kNotExecutable:
      return memory_stop(kFetch, kProtection, rip = pending_address_, 1);
    case Pending::kInlineRefused: {
      rip = pending_address_;
      const CodeRange* range = block_.range;
      shared_.info[slot::kSite] = range->site(rip - range->base)->id;
      retire_current(rip, false);
      return stopped(Stop::kSite);
    }
    case Pending::kInterrupt:
      return on_interrupt_stop(step, own_trap_flag);
    case Pending::kWatch:
      return on_watch_stop();
    case Pending::kBranch:
      rip = pending_address_;
      return branch_stop();
    case Pending::kNone:
      break;
  }
  if (error == UC_ERR_INSN_INVALID) return on_stop_byte();
  if (refused_.is_set) {
    if (refused_.access == kFetch) rip = refused_.address;
    if (!retire_current(rip, refused_.access == kFetch)) return branch_stop();
    return memory_stop(refused_.access,
                       is_canonical(refused_.address) ? refused_.reason : kNonCanonical,
                       refused_.address, refused_.size);
  }
  if (error == UC_ERR_OK && rip == 0) {
    if (!retire_current(rip, true)) return branch_stop();
    return memory_stop(kFetch, kUnmapped, 0, 1);
  }
  throw UnicornError("uc_emu_start", error);
}

// ---- registers --------------------------------------------------------------------------------------------------

void Engine::load_registers(bool step) {
  int ids[20];
  void* values[20];
  int count = 0;
  uint64_t flags = shared_.registers[slot::kRflags];
  if (step) flags |= kTrapFlag;
  for (int index = 0; index < 20; index++) {
    if (index == slot::kRip) continue;
    uint64_t& wanted = index == slot::kRflags ? flags : shared_.registers[index];
    if (wanted == held_[index]) continue;
    ids[count] = kRegisterIds[index];
    values[count++] = &wanted;
    held_[index] = wanted;
  }
  if (count > 0) check(uc_reg_write_batch(uc_, ids, values, count), "uc_reg_write_batch");
}

void Engine::store_registers(bool drop_trap_flag) {
  static_assert(sizeof(kRegisterIds) / sizeof(int) == 20);
  int ids[slot::kHeld];
  void* values[slot::kHeld];
  for (int index = 0; index < slot::kHeld; index++) {
    ids[index] = kRegisterIds[index];
    values[index] = &held_[index];
  }
  held_[slot::kRflags] = 0;
  check(uc_reg_read_batch(uc_, ids, values, slot::kHeld), "uc_reg_read_batch");
  std::memcpy(shared_.registers, held_.data(), slot::kHeld * sizeof(uint64_t));
  if (drop_trap_flag) shared_.registers[slot::kRflags] &= ~kTrapFlag;
}

// Unicorn keeps the exception that it delivered as "in flight" for ever; the next one would become a double fault.
void Engine::forget_exception(int32_t* error_code) {
  const ContextLayout& layout = context_layout();
  check(uc_context_save(uc_, context_), "uc_context_save");
  uint8_t* bytes = reinterpret_cast<uint8_t*>(context_);
  std::memcpy(error_code, bytes + layout.error_code, sizeof *error_code);
  const int32_t none = -1;
  std::memcpy(bytes + layout.old_exception, &none, sizeof none);
  check(uc_context_restore(uc_, context_), "uc_context_restore");
}

}  // namespace caretaker
