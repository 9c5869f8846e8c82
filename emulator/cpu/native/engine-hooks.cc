// What Unicorn calls while it runs: blocks, in-line sites, exceptions and accesses that its map refuses.
#include "engine-registers.h"
#include "engine.h"

namespace caretaker {

void Engine::syscall_hook(uc_engine*, void* user) { static_cast<Engine*>(user)->on_inline_site(); }

void Engine::interrupt_hook(uc_engine*, uint32_t vector, void* user) {
  Engine* engine = static_cast<Engine*>(user);
  engine->pending_vector_ = vector;
  engine->halt(Pending::kInterrupt, 0);
}

// Unicorn 2.0.1 comes here before it walks the page tables. A filler page lets the walk happen, which then faults with
// the right CR2 and RIP; the page is taken away again at the stop.
bool Engine::unmapped_hook(uc_engine* uc, uc_mem_type type, uint64_t address, int size, int64_t,
                           void* user) {
  Engine* engine = static_cast<Engine*>(user);
  const uint64_t page = address & ~kPageMask;
  if (uc_mem_map(uc, page, kPageSize, UC_PROT_ALL) == UC_ERR_OK) {
    engine->filler_pages_.push_back(page);
    // An access across the end of a page needs both.
    const uint64_t next = (address + static_cast<uint64_t>(size) - 1) & ~kPageMask;
    if (next != page && uc_mem_map(uc, next, kPageSize, UC_PROT_ALL) == UC_ERR_OK) {
      engine->filler_pages_.push_back(next);
    }
    return true;
  }
  const Access access = type == UC_MEM_FETCH_UNMAPPED  ? kFetch
                        : type == UC_MEM_READ_UNMAPPED ? kRead
                                                       : kWrite;
  engine->refused_ = {true, access, kUnmapped, address, static_cast<uint64_t>(size)};
  return false;
}

bool Engine::fetch_hook(uc_engine*, uc_mem_type, uint64_t address, int size, int64_t, void* user) {
  static_cast<Engine*>(user)->refused_ = {true, kFetch, kProtection, address,
                                          static_cast<uint64_t>(size)};
  return false;
}

void Engine::halt(Pending why, uint64_t address) {
  pending_ = why;
  pending_address_ = address;
  uc_emu_stop(uc_);
}

const Engine::KnownBlock* Engine::learn_block(KnownBlock& known, uint64_t address, uint32_t size) {
  CodeRange* range = code_at(address);
  if (range == nullptr) return nullptr;
  const uint64_t offset = address - range->base;
  const uint64_t end = offset + size < range->size ? offset + size : range->size;
  const bool is_filler =
      end < range->size && (range->at(end).flags & (kResume | kBoundary)) == kResume;
  const ByteInfo& first = range->at(offset);
  const uint32_t mixed = static_cast<uint32_t>(offset) + range->ordinal * 0x10001u;
  known.address = static_cast<uint32_t>(address);
  known.size = static_cast<uint16_t>(size);
  known.size_in_range = static_cast<uint16_t>(end - offset);
  known.range = range;
  known.instructions = static_cast<uint16_t>(range->at(end).instructions - first.instructions);
  known.stores = static_cast<uint16_t>(range->at(end).stores - first.stores);
  known.location = static_cast<uint16_t>((mixed * 0x9e3779b1u) >> 16);
  known.flags = first.flags;
  known.filler = is_filler ? static_cast<uint8_t>(range->next_boundary(end) - end) : 0;
  known.begins_with_breakpoint = !breakpoints_.empty() && breakpoints_.count(address) != 0;
  known.site = end - offset >= 2 ? range->site_index(end - 2) : -1;
  return &known;
}

void Engine::forget_blocks() {
  for (KnownBlock& known : known_blocks_) known.address = KnownBlock::kNone;
  executable_page_ = kNoPage;
}

// Whether the active address space may execute the page of a block.
inline bool Engine::may_execute(const KnownBlock& known) {
  const uint64_t page = known.address & ~kPageMask;
  if (page == executable_page_) return true;
  const CodeRange& range = *known.range;
  if (range.allowed[(known.address - range.base) / kPageSize] == 0) return false;
  executable_page_ = page;
  return true;
}

// The program enters a block, some seventy times an exit: what it costs is felt in every run.
void Engine::block_hook(uc_engine*, uint64_t address, uint32_t size, void* user) {
  static_cast<Engine*>(user)->on_block(address, size);
}

inline void Engine::on_block(uint64_t address, uint32_t size) {
  KnownBlock& entry = known_block(address);
  const bool is_known = entry.address == address && entry.size == size;
  const KnownBlock* known = is_known ? &entry : learn_block(entry, address, size);
  if (block_.range != nullptr) {
    if (known != nullptr && (known->flags & kRepeat) != 0 && continues_repetition(*known)) return;
    retire_block();
    if (cet_ != 0 && !follow_branch(address)) {
      halt(Pending::kBranch, address);
      return;
    }
  }
  if (known == nullptr || !may_execute(*known)) {
    halt(Pending::kNotExecutable, address);
    return;
  }
  if ((known->flags & kBoundary) == 0 && address != inline_resume_) {
    halt(Pending::kMisaligned, address);
    return;
  }
  if (executed_ + known->instructions > limit_) {
    halt(Pending::kNear, address);
    return;
  }
  if (is_waiting_ && !accepts_target(address)) {
    halt(Pending::kBranch, address);
    return;
  }
  // Not entered until the run goes on: whether Unicorn comes here before a breakpoint depends on what was swept.
  if (known->begins_with_breakpoint && !is_skipped(address)) return;
  const uint64_t offset = address - known->range->base;
  // A block that begins after a site or where Unicorn split one is no new block of the program.
  const bool is_continuation = (known->flags & kAfterBranch) == 0 &&
                               (address == previous_end_ || address == previous_resume_);
  block_.range = known->range;
  block_.start = offset;
  block_.end = offset + known->size_in_range;
  block_.resume = block_.end + known->filler;
  block_.instructions = known->instructions;
  block_.stores = known->stores;
  block_.site = known->site;
  if (!is_continuation) cover(*known);
}

// Another iteration of a repeated string instruction: the instruction has not ended yet.
bool Engine::continues_repetition(const KnownBlock& known) {
  const CodeRange& range = *known.range;
  const uint64_t offset = known.address - range.base;
  if (known.range != block_.range || offset < block_.start || offset >= block_.end) return false;
  const ByteInfo& first = range.at(offset);
  if (range.at(block_.end).instructions != first.instructions + 1) return false;
  executed_ += first.instructions - range.at(block_.start).instructions;
  stores_ += first.stores - range.at(block_.start).stores;
  block_.start = offset;
  block_.instructions = range.at(block_.end).instructions - first.instructions;
  block_.stores = range.at(block_.end).stores - first.stores;
  return true;
}

// Counts a block that ran to its end.
inline void Engine::retire_block() {
  executed_ += block_.instructions;
  stores_ += block_.stores;
  previous_range_ = block_.range;
  previous_end_ = block_.range->base + block_.end;
  previous_resume_ = block_.range->base + block_.resume;
  block_.range = nullptr;
}

inline void Engine::cover(const KnownBlock& block) {
  blocks_++;
  const uint32_t edge = (block.location ^ previous_location_) & (kCoverageBytes - 1);
  uint8_t& seen = shared_.coverage[edge];
  if (seen == 0 && shared_.edges[0] < kCoverageBytes) shared_.edges[++shared_.edges[0]] = edge;
  if (seen != 255) seen++;
  previous_location_ = block.location >> 1;
  shared_.trace[trace_head_] = block.address;
  trace_head_ = (trace_head_ + 1) % kTraceEntries;
}

// SYSCALL ends its block, so that the site is the last two bytes of the current one.
void Engine::on_inline_site() {
  const uint64_t offset = block_.end - 2;
  bool is_answered = false;
  if (block_.site >= 0) {
    const CodeSite& site = block_.range->site_of(block_.site);
    switch (site.how) {
      case Inline::kVmread:
        is_answered = inline_vmread(site);
        break;
      case Inline::kVmwrite:
        is_answered = inline_vmwrite(site);
        break;
      case Inline::kRdtsc:
        inline_rdtsc();
        is_answered = true;
        break;
      case Inline::kNone:
        break;
    }
  }
  if (is_answered) {
    inline_resume_ = block_.range->base + block_.end;
  } else {
    halt(Pending::kInlineRefused, block_.range->base + offset);
  }
}

// The dense slot of an encoding, kNoField where the access must go to the model.
static uint16_t slot_for(uint64_t encoding, const uint16_t* table, const BoundVmcs& vmcs) {
  // Bit 0 asks for the high half of a 64-bit field: rare, and the model's.
  if (table == nullptr || vmcs.values == nullptr || encoding > 0xffff || (encoding & 1) != 0) {
    return kNoField;
  }
  const uint16_t slot = table[encoding];
  return slot < vmcs.slots ? slot : kNoField;
}

// What VMREAD and VMWRITE read of the registers, in one call: a read does not look at where it delivers.
Engine::Operands Engine::operands_of(const CodeSite& site, bool is_write) {
  Operands operands{0, 0, 0};
  int ids[] = {kRegisterIds[site.reg], UC_X86_REG_EFLAGS, kRegisterIds[site.rm]};
  void* values[] = {&operands.encoding, &operands.rflags, &operands.value};
  check(uc_reg_read_batch(uc_, ids, values, is_write ? 3 : 2), "uc_reg_read_batch");
  return operands;
}

bool Engine::inline_vmread(const CodeSite& site) {
  Operands operands = operands_of(site, false);
  const uint16_t slot = slot_for(operands.encoding, slot_of_, vmcs_);
  if (slot == kNoField) return false;
  const uint8_t flags = vmcs_.flags[slot];
  if ((flags & (BoundVmcs::kReadable | BoundVmcs::kPoison)) != BoundVmcs::kReadable) return false;
  // VMsucceed: the arithmetic flags are cleared.
  operands.rflags &= ~kArithmeticFlags;
  int ids[] = {kRegisterIds[site.rm], UC_X86_REG_EFLAGS};
  void* values[] = {&vmcs_.values[slot], &operands.rflags};
  check(uc_reg_write_batch(uc_, ids, values, 2), "uc_reg_write_batch");
  shared_.counters[slot::kVmreads]++;
  return true;
}

bool Engine::inline_vmwrite(const CodeSite& site) {
  const Operands operands = operands_of(site, true);
  const uint16_t slot = slot_for(operands.encoding, slot_of_, vmcs_);
  if (slot == kNoField) return false;
  uint8_t& flags = vmcs_.flags[slot];
  if ((flags & BoundVmcs::kWritable) == 0) return false;
  // The width of a field is in bits 14:13 of its encoding.
  static constexpr uint64_t kWidthMask[] = {0xffff, UINT64_MAX, 0xffffffff, UINT64_MAX};
  vmcs_.values[slot] = operands.value & kWidthMask[(operands.encoding >> 13) & 3];
  if ((flags & BoundVmcs::kWritten) == 0) vmcs_.written[(*vmcs_.written_count)++] = slot;
  flags = static_cast<uint8_t>((flags & ~BoundVmcs::kPoison) | BoundVmcs::kWritten);
  set_register(UC_X86_REG_EFLAGS, operands.rflags & ~kArithmeticFlags);
  shared_.counters[slot::kVmwrites]++;
  return true;
}

void Engine::inline_rdtsc() {
  const CodeRange& range = *block_.range;
  const uint64_t before = executed_ + range.at(block_.end - 2).instructions -
                          range.at(block_.start).instructions;
  const uint64_t tsc = static_cast<uint64_t>(shared_.counters[slot::kTscBase]) + before;
  set_register(UC_X86_REG_RAX, tsc & 0xffffffff);
  set_register(UC_X86_REG_RDX, tsc >> 32);
  shared_.counters[slot::kRdtscs]++;
}

}  // namespace caretaker
