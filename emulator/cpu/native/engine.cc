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
// Outside model memory and the tables: Unicorn 2.0.1 flushes its TLB only when its map changes.
constexpr uint64_t kFlushPage = TableArena::kBase + TableArena::kSize;

constexpr uint64_t kErrorProtection = 1;
constexpr uint64_t kErrorWrite = 2;
constexpr uint64_t kErrorFetch = 0x10;

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
    if (is_breakpoint && (skipped_breakpoint_ != rip || skipped_at_count_ != executed_)) {
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

Engine::Outcome Engine::on_interrupt_stop(bool step, bool own_trap_flag) {
  uint64_t& rip = shared_.registers[slot::kRip];
  if (pending_vector_ == 14) return on_page_fault();
  if (pending_vector_ != 1 || !step) {
    if (!retire_current(rip, pending_vector_ == 1 || !is_canonical(rip))) return branch_stop();
    shared_.info[slot::kVector] = pending_vector_;
    return stopped(Stop::kException);
  }
  // A single step of ours. A repeated string instruction traps after every iteration.
  if (block_.range != nullptr) {
    CodeRange* range = block_.range;
    const uint64_t start = block_.start;
    const uint8_t flags = range->at(start).flags;
    const bool is_unfinished = (flags & kRepeat) != 0 && rip == range->base + start;
    if (is_unfinished) {
      retire_current(rip, false);
    } else {
      if (!retire_current(rip, true)) return branch_stop();
      const uint64_t next = rip - range->base;
      if (range->contains(rip) && (range->at(next).flags & (kResume | kBoundary)) == kResume) {
        rip = range->base + range->next_boundary(next);
      }
      if ((flags & kPushFlags) != 0 && !own_trap_flag) {
        // The image that the step pushed must not show the step's own flag.
        const uint64_t at = shared_.registers[slot::kRsp] + 1;
        if (at < memory_->size()) memory_->bytes()[at] &= 0xfe;
      }
    }
  }
  if (own_trap_flag) {
    shared_.info[slot::kVector] = 1;
    return stopped(Stop::kException);
  }
  return Outcome::kStepped;
}

Engine::Outcome Engine::on_page_fault() {
  const uint64_t rip = shared_.registers[slot::kRip];
  const uint64_t address = get_register(UC_X86_REG_CR2);
  const uint64_t code = shared_.info[slot::kErrorCode];
  const uint64_t* leaf = active_->leaf(address);
  // Without NX in the tables a fetch is told from a read by its place: an instruction whose own bytes are not there.
  const bool is_fetch =
      (code & kErrorFetch) != 0 ||
      (is_2_0_ && leaf == nullptr && (code & kErrorWrite) == 0 && address - rip < 15 &&
       (address == rip || (address & kPageMask) == 0));
  if ((code & kErrorWrite) != 0 && leaf != nullptr && active_->is_writable(address) &&
      code_at(address) != nullptr) {
    retire_current(rip, false);
    return store_to_code(address);
  }
  if (!retire_current(rip, is_fetch)) return branch_stop();
  const Access access = is_fetch ? kFetch : (code & kErrorWrite) != 0 ? kWrite : kRead;
  return memory_stop(access, (code & kErrorProtection) != 0 ? kProtection : kUnmapped, address, 0);
}

// Unicorn was refused the access before it happened: the instruction is executed alone, and the run ends behind it.
Engine::Outcome Engine::on_watch_stop() {
  const uint64_t address = refused_.address, access = refused_.access, size = refused_.size;
  retire_current(shared_.registers[slot::kRip], false);
  is_past_watch_ = true;
  const Outcome outcome = go(true);
  is_past_watch_ = false;
  if (outcome != Outcome::kStepped) return outcome;
  shared_.info[slot::kAddress] = address;
  shared_.info[slot::kAccess] = access;
  shared_.info[slot::kSize] = size;
  return stopped(Stop::kWatch);
}

// A store into a page that holds code: done alone, then carried over into the true bytes.
// DEVIATION: a stored byte that equals what the copy holds in place of a site is not seen as a change.
Engine::Outcome Engine::store_to_code(uint64_t address) {
  const uint64_t page = address & ~kPageMask;
  std::vector<uint64_t> pages;
  for (const uint64_t candidate : {page, page + kPageSize}) {
    if (active_->leaf(candidate) != nullptr && active_->is_writable(candidate) &&
        code_at(candidate) != nullptr) {
      pages.push_back(candidate);
    }
  }
  std::vector<std::vector<uint8_t>> before;
  for (const uint64_t each : pages) {
    const CodeRange* range = code_at(each);
    const uint8_t* copy = range->copy() + (each - range->base);
    before.emplace_back(copy, copy + kPageSize);
    *active_->leaf(each) |= 2;
  }
  flush_tlb();
  const Outcome outcome = go(true);
  bool is_changed = false;
  for (size_t index = 0; index < pages.size(); index++) {
    const uint64_t each = pages[index];
    *active_->leaf(each) &= ~2ull;
    const CodeRange* range = code_at(each);
    const uint8_t* copy = range->copy() + (each - range->base);
    for (uint64_t at = 0; at < kPageSize; at++) {
      if (copy[at] == before[index][at]) continue;
      memory_->bytes()[each + at] = copy[at];
      is_changed = true;
    }
  }
  flush_tlb();
  if (outcome == Outcome::kStepped && is_changed) {
    shared_.info[slot::kAddress] = page;
    return stopped(Stop::kWrittenCode);
  }
  return outcome;
}

// Unicorn met a byte that is no instruction: a site, a breakpoint, or code that nobody knows.
Engine::Outcome Engine::on_stop_byte() {
  const uint64_t rip = shared_.registers[slot::kRip];
  retire_current(rip, false);
  CodeRange* range = code_at(rip);
  if (range == nullptr) return stopped(Stop::kInvalid);
  if (!breakpoints_.empty() && breakpoints_.count(rip) != 0 &&
      !(skipped_breakpoint_ == rip && skipped_at_count_ == executed_)) {
    skipped_breakpoint_ = rip;
    skipped_at_count_ = executed_;
    return stopped(Stop::kBreakpoint);
  }
  const uint64_t offset = rip - range->base;
  const CodeSite* site = range->site(offset);
  if (site != nullptr && site->how == Inline::kNone) {
    shared_.info[slot::kSite] = site->id;
    return stopped(Stop::kSite);
  }
  if ((range->at(offset).flags & kUndefined) != 0) {
    shared_.info[slot::kVector] = 6;
    return stopped(Stop::kException);
  }
  return stopped(Stop::kInvalid);
}

Engine::Outcome Engine::memory_stop(Access access, Reason reason, uint64_t address, uint64_t size) {
  shared_.info[slot::kAddress] = address;
  shared_.info[slot::kAccess] = access;
  shared_.info[slot::kReason] = reason;
  shared_.info[slot::kSize] = size;
  return stopped(Stop::kMemory);
}

// Counts what the current block executed: all of it, or the instructions below RIP.
bool Engine::retire_current(uint64_t rip, bool is_whole) {
  CodeRange* range = block_.range;
  if (range == nullptr) return true;
  uint64_t end = block_.end;
  if (!is_whole && rip - range->base >= block_.start && rip - range->base < end) {
    end = rip - range->base;
  }
  if (end == block_.end) {
    executed_ += block_.instructions;
    stores_ += block_.stores;
  } else {
    executed_ += range->at(end).instructions - range->at(block_.start).instructions;
    stores_ += range->at(end).stores - range->at(block_.start).stores;
  }
  previous_range_ = range;
  previous_end_ = end;
  // The model may execute the instruction at RIP itself and go on behind it.
  previous_resume_ = end < block_.end ? range->next_boundary(end) : block_.resume;
  block_.range = nullptr;
  return !is_whole || cet_ == 0 || follow_branch(rip);
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

// ---- address spaces ---------------------------------------------------------------------------------------------

uint32_t Engine::create_space(const std::vector<LinearRange>& ranges) {
  auto tables = std::make_unique<PageTables>(arena_, !is_2_0_);
  for (const LinearRange& range : ranges) tables->map(range);
  for (const auto& code : ranges_) tables->set_code(code->base, code->size, true);
  spaces_[next_space_] = std::move(tables);
  return next_space_++;
}

void Engine::activate_space(uint32_t id) {
  const auto found = spaces_.find(id);
  PageTables* tables = found == spaces_.end() ? empty_.get() : found->second.get();
  active_ = tables;
  executable_page_ = kNoPage;
  shadow_range_ = nullptr;
  marked_page_ = UINT64_MAX;
  for (const auto& range : ranges_) {
    range->allowed = tables->executable_pages(range->ordinal, range->base, range->size);
  }
  flush_tlb(false);
}

void Engine::dispose_space(uint32_t id) {
  const auto found = spaces_.find(id);
  if (found == spaces_.end()) return;
  if (active_ == found->second.get()) activate_space(0);
  found->second->take_dirty([&](uint64_t page) { written_elsewhere_.push_back(page); });
  spaces_.erase(found);
}

// Writing CR3 flushes from 2.1 on; before that only a change of Unicorn's map does.
void Engine::flush_tlb(bool is_map_changed) {
  if (is_map_changed || is_2_0_) is_map_changed_ = true;
  set_register(UC_X86_REG_CR3, active_->root());
  if (!is_2_0_) return;
  flush_toggle_ = !flush_toggle_;
  check(uc_mem_protect(uc_, kFlushPage, kPageSize,
                       flush_toggle_ ? UC_PROT_READ : UC_PROT_READ | UC_PROT_WRITE),
        "uc_mem_protect");
}

// Unicorn finds translations by linear address, so that they must be mapped while it looks; flushing all of them would
// clear a gigabyte on 2.0.1.
void Engine::drop_translations(uint64_t base, uint64_t size) {
  const uint64_t first = base & ~kPageMask;
  const uint64_t end = (base + size + kPageMask) & ~kPageMask;
  PageTables tables(arena_, false);
  tables.map({first, end - first, false, true});
  PageTables* const active = active_;
  active_ = &tables;
  flush_tlb();
  check(uc_ctl_remove_cache(uc_, base, base + size), "uc_ctl_remove_cache");
  active_ = active;
  flush_tlb();
}

void Engine::take_dirty(uint8_t* page_flags) {
  for (const uint64_t page : written_elsewhere_) page_flags[page / kPageSize] = 1;
  written_elsewhere_.clear();
  marked_page_ = UINT64_MAX;
  bool any = false;
  for (const auto& [id, tables] : spaces_) {
    any |= tables->take_dirty([&](uint64_t page) { page_flags[page / kPageSize] = 1; });
  }
  if (any) flush_tlb();
}

// ---- code -------------------------------------------------------------------------------------------------------

CodeRange* Engine::code_at(uint64_t address) {
  if (last_range_ != nullptr && last_range_->contains(address)) return last_range_;
  for (const auto& range : ranges_) {
    if (range->contains(address)) return last_range_ = range.get();
  }
  return nullptr;
}

void Engine::define_code(uint64_t base, uint64_t size, const uint8_t* flags,
                         std::vector<CodeSite> sites) {
  forget_blocks();
  CodeRange* same = nullptr;
  for (const auto& range : ranges_) {
    if (range->base == base && range->size == size) same = range.get();
  }
  if (same == nullptr) {
    const auto overlaps = [&](const std::unique_ptr<CodeRange>& range) {
      return range->base < base + size && base < range->base + range->size;
    };
    auto range = std::make_unique<CodeRange>(base, size, next_ordinal_++);
    same = range.get();
    for (const auto& old : ranges_) {
      if (overlaps(old)) drop_translations(old->base, old->size);
    }
    map_->place(base, size, SegmentKind::kCode, same->copy());
    for (const auto& old : ranges_) {
      if (!overlaps(old)) continue;
      for (const auto& [id, tables] : spaces_) tables->set_code(old->base, old->size, false);
    }
    for (const auto& [id, tables] : spaces_) tables->set_code(base, size, true);
    ranges_.erase(std::remove_if(ranges_.begin(), ranges_.end(), overlaps), ranges_.end());
    ranges_.push_back(std::move(range));
    last_range_ = nullptr;
    previous_range_ = nullptr;
    flush_tlb();
    same->allowed = active_->executable_pages(same->ordinal, base, size);
  } else {
    drop_translations(base, size);
  }
  same->define(memory_->bytes() + base, flags, std::move(sites));
  apply_breakpoints(*same);
}

void Engine::remove_code(uint64_t base, uint64_t size) {
  const auto found = std::find_if(ranges_.begin(), ranges_.end(), [&](const auto& range) {
    return range->base == base && range->size == size;
  });
  if (found == ranges_.end()) return;
  forget_blocks();
  drop_translations(base, size);
  map_->place(base, size, SegmentKind::kMemory, nullptr);
  for (const auto& [id, tables] : spaces_) tables->set_code(base, size, false);
  ranges_.erase(found);
  last_range_ = nullptr;
  previous_range_ = nullptr;
  flush_tlb();
}

void Engine::set_breakpoint(uint64_t address, bool on) {
  if (on) {
    breakpoints_.insert(address);
  } else {
    breakpoints_.erase(address);
  }
  CodeRange* range = code_at(address);
  if (range == nullptr) return;
  const uint64_t offset = address - range->base;
  const CodeSite* site = range->site(offset);
  range->write_running(offset, site != nullptr ? site->length : 1, memory_->bytes() + address);
  apply_breakpoints(*range);
  drop_translations(address, 1);
}

void Engine::apply_breakpoints(CodeRange& range) {
  for (const uint64_t address : breakpoints_) {
    if (range.contains(address)) range.copy()[address - range.base] = kStopByte;
  }
}

}  // namespace caretaker
