// Control-flow enforcement for what Unicorn executes: shadow stacks and indirect branch tracking. Unicorn knows neither,
// so each near branch is followed when the block that it ends is left, and is taken back when hardware would refuse it.
//
// Source: SDM, "CALL", "RET", "JMP", "Shadow Stacks", "Indirect Branch Tracking".
// Invariant: at a stop for a refused branch RIP, RSP, SSP and the counts are as before the branch. With CET off a block
// costs one test more.
// DEVIATION: what a refused CALL has pushed stays below RSP. A store here is not seen by a watch.
// Not modelled: the legacy code page bitmap (the model refuses to run with it).
#include <cstring>

#include "engine-registers.h"
#include "engine.h"

namespace caretaker {
namespace {

constexpr uint8_t kEndbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
constexpr uint64_t kSlotBytes = 8;
// Error codes of #CP.
constexpr uint64_t kNearReturn = 1, kMissingEndbranch = 3;

bool is_legacy_prefix(uint8_t byte) {
  return byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || (byte >= 0x64 && byte <= 0x67) ||
         byte == 0xf0 || byte == 0xf2 || byte == 0xf3;
}

Branch branch_of(const uint8_t* bytes, uint64_t length) {
  Branch branch;
  branch.length = static_cast<uint8_t>(length);
  uint64_t at = 0;
  bool overrides_segment = false;
  for (; at + 1 < length && is_legacy_prefix(bytes[at]); at++) {
    branch.has_no_track |= bytes[at] == 0x3e;
    overrides_segment |= bytes[at] == 0x64 || bytes[at] == 0x65;
  }
  // In 64-bit mode a prefix of FS or GS takes the meaning away.
  branch.has_no_track &= !overrides_segment;
  if (at + 1 < length && (bytes[at] & 0xf0) == 0x40) at++;
  const uint64_t left = length - at - 1;
  switch (bytes[at]) {
    case 0xe8: {
      // A call of the next instruction, which position-independent code uses to know where it is, pushes nothing.
      uint32_t displacement = 1;
      if (left >= sizeof displacement) std::memcpy(&displacement, bytes + at + 1, sizeof displacement);
      if (displacement != 0) branch.kind = Branch::kCall;
      break;
    }
    case 0xc2:
      std::memcpy(&branch.release, bytes + at + 1, sizeof branch.release);
      [[fallthrough]];
    case 0xc3:
      branch.kind = Branch::kReturn;
      break;
    case 0xff: {
      const int operation = left == 0 ? 0 : (bytes[at + 1] >> 3) & 7;
      if (operation != 2 && operation != 4) break;
      branch.kind = operation == 2 ? Branch::kCall : Branch::kJump;
      branch.is_indirect = true;
      break;
    }
    default:
      break;
  }
  return branch;
}

// The near CALL, RET or indirect JMP that ends [start, end) of a range; `bytes` are the range's true ones.
Branch last_branch(const CodeRange& range, uint64_t start, uint64_t end, const uint8_t* bytes) {
  uint64_t last = end;
  do {
    if (last == start) return {};
    last--;
  } while ((range.at(last).flags & kBoundary) == 0);
  return range.site(last) == nullptr ? branch_of(bytes + last, end - last) : Branch{};
}

}  // namespace

// The block that has just been retired led to `target`. False when its branch is refused; refused_branch_ says why.
bool Engine::follow_branch(uint64_t target) {
  const CodeRange& range = *previous_range_;
  const Branch& branch = branch_ =
      last_branch(range, block_.start, block_.end, memory_->bytes() + range.base);
  if ((cet_ & kShadowStacks) != 0 && branch.kind == Branch::kReturn) return follow_return(target);
  // Anything else that leads to a non-canonical address is refused behind this.
  if (!is_canonical(target)) return true;
  if ((cet_ & kShadowStacks) != 0 && branch.kind == Branch::kCall && !follow_call()) return false;
  if ((cet_ & kEndbranch) != 0 && branch.is_indirect) {
    is_waiting_ = !branch.has_no_track || (cet_ & kNoTrack) == 0;
  }
  return true;
}

bool Engine::follow_call() {
  const uint64_t ssp = shared_.registers[slot::kSsp] - kSlotBytes;
  uint8_t* top = shadow_stack(ssp);
  if (top == nullptr) return refuse_branch(BranchRefusal::kPush, ssp);
  const uint64_t return_address = previous_range_->base + block_.end;
  std::memcpy(top, &return_address, kSlotBytes);
  if ((ssp & ~kPageMask) != marked_page_) active_->mark_written(marked_page_ = ssp & ~kPageMask);
  shared_.registers[slot::kSsp] = ssp;
  return true;
}

bool Engine::follow_return(uint64_t target) {
  const uint64_t ssp = shared_.registers[slot::kSsp];
  const uint8_t* top = shadow_stack(ssp);
  if (top == nullptr) return refuse_branch(BranchRefusal::kPop, ssp);
  uint64_t wanted;
  std::memcpy(&wanted, top, kSlotBytes);
  if (wanted != target) return refuse_branch(BranchRefusal::kMismatch, ssp);
  shared_.counters[slot::kHeldReturns]++;
  // A RET to a non-canonical address is refused behind this and has popped nothing.
  if (is_canonical(target)) shared_.registers[slot::kSsp] = ssp + kSlotBytes;
  return true;
}

bool Engine::refuse_branch(BranchRefusal why, uint64_t address) {
  refused_branch_ = {why, address};
  return false;
}

// Whether an indirect branch may have led here; `address` is in memory.
bool Engine::accepts_target(uint64_t address) {
  if (address + sizeof kEndbr64 <= memory_->size() &&
      std::memcmp(memory_->bytes() + address, kEndbr64, sizeof kEndbr64) == 0) {
    is_waiting_ = false;
    return true;
  }
  return refuse_branch(BranchRefusal::kNoEndbranch, address);
}

// Eight bytes of a shadow stack of the active address space, null where it has none.
uint8_t* Engine::shadow_stack(uint64_t address) {
  const auto holds = [&](const LinearRange* range) {
    return range != nullptr && address - range->base <= range->size - kSlotBytes;
  };
  if (!holds(shadow_range_)) {
    shadow_range_ = active_->shadow_stack_at(address);
    if (!holds(shadow_range_)) return nullptr;
  }
  return memory_->bytes() + address;
}

// Takes the refused branch back, where there is one, and says what is wrong with it.
Engine::Outcome Engine::branch_stop() {
  const auto [why, address] = refused_branch_;
  shared_.info[slot::kAddress] = address;
  if (why == BranchRefusal::kNoEndbranch) {
    shared_.info[slot::kErrorCode] = kMissingEndbranch;
    return stopped(Stop::kControlProtection);
  }
  const Branch& branch = branch_;
  previous_end_ = previous_range_->base + block_.end - branch.length;
  previous_resume_ = previous_range_->base + block_.end;
  executed_--;
  shared_.registers[slot::kRip] = previous_end_;
  if (branch.kind == Branch::kCall) {
    shared_.registers[slot::kRsp] += kSlotBytes;
    stores_--;
  } else {
    shared_.registers[slot::kRsp] -= kSlotBytes + branch.release;
  }
  shared_.info[slot::kErrorCode] = kNearReturn;
  shared_.info[slot::kAccess] = why == BranchRefusal::kPush ? kWrite : kRead;
  return stopped(why == BranchRefusal::kMismatch ? Stop::kControlProtection : Stop::kShadowStack);
}

}  // namespace caretaker
