// Why a stay inside Unicorn ended: what the program did, and what of it was executed and counts.
#include <cstring>

#include "engine-registers.h"
#include "engine.h"

namespace caretaker {
namespace {

constexpr uint64_t kErrorProtection = 1;
constexpr uint64_t kErrorWrite = 2;
constexpr uint64_t kErrorFetch = 0x10;

}  // namespace

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
  const uint64_t rip = shared_.registers[slot::kRip];
  retire_current(shared_.registers[slot::kRip], false);
  is_past_watch_ = true;
  const Outcome outcome = go(true);
  is_past_watch_ = false;
  if (outcome != Outcome::kStepped) return outcome;
  shared_.info[slot::kAddress] = address;
  shared_.info[slot::kAccess] = access;
  shared_.info[slot::kSize] = size;
  shared_.info[slot::kAccessRip] = rip;
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
  if (!breakpoints_.empty() && breakpoints_.count(rip) != 0 && !is_skipped(rip)) {
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
  previous_end_ = range->base + end;
  // The model may execute the instruction at RIP itself and go on behind it.
  previous_resume_ =
      range->base + (end < block_.end ? range->next_boundary(end) : block_.resume);
  block_.range = nullptr;
  return !is_whole || cet_ == 0 || follow_branch(rip);
}

}  // namespace caretaker
