// Watched pages: their accesses leave the fast path, every other page keeps it.
//
// A memory hook would slow down every load and store of the engine. A watched page is mapped as a device instead, whose
// callbacks are plain memory, and lacks permissions in Unicorn's map, whose protection hook comes first and knows RIP.
// Before 2.1 that hook does not know RIP and devices split accesses: there it is a memory hook after all.
// DEVIATION: on 2.0.1 the RIP of a record is its block's first address.
#include <cstring>

#include "engine-registers.h"
#include "engine.h"

namespace caretaker {

void Engine::set_watch(uint64_t base, const uint8_t* masks, uint64_t size, bool exact_reads) {
  const bool logs_reads = !is_2_0_ && !exact_reads;
  for (uint64_t at = base; at < base + size;) {
    const uint64_t page = at & ~kPageMask;
    const uint64_t end = page + kPageSize < base + size ? page + kPageSize : base + size;
    WatchedPage& watched = watched_page(page, logs_reads);
    std::memcpy(watched.masks.data() + (at - page), masks + (at - base), end - at);
    forget_unused(watched);
    at = end;
  }
  flush_tlb();
  // Whether an access asks the hooks is decided when it is translated.
  if (is_2_0_) {
    for (const auto& range : ranges_) drop_translations(range->base, range->size);
  }
}

void Engine::set_stop_watch(uint64_t base, uint64_t size, uint8_t bits) {
  if (is_2_0_) return;
  for (uint64_t at = base; at < base + size;) {
    const uint64_t page = at & ~kPageMask;
    const uint64_t end = page + kPageSize < base + size ? page + kPageSize : base + size;
    const bool is_new = watched_.find(page) == watched_.end();
    // Reads that stop must be refused first; a page that nobody watches keeps the wish of the next watch.
    WatchedPage& watched = watched_page(page, is_new || (bits & 1) == 0);
    std::memset(watched.stops.data() + (at - page), bits, end - at);
    if ((bits & 1) != 0 && watched.logs_reads) watched_page(page, false);
    watched.has_stops = false;
    for (const uint8_t stop : watched.stops) watched.has_stops |= stop != 0;
    forget_unused(watched);
    at = end;
  }
  flush_tlb();
}

Engine::WatchedPage& Engine::watched_page(uint64_t page, bool logs_reads) {
  auto& watched = watched_[page];
  if (watched != nullptr && watched->logs_reads && !logs_reads) {
    // The stricter wish holds for the whole page.
    check(uc_mem_protect(uc_, page, kPageSize, UC_PROT_NONE), "uc_mem_protect");
    watched->logs_reads = false;
  }
  if (watched == nullptr) {
    watched = std::make_unique<WatchedPage>();
    watched->engine = this;
    watched->base = page;
    watched->logs_reads = logs_reads;
    watched->masks.fill(0);
    watched->stops.fill(0);
    watched->has_stops = false;
    int types = UC_HOOK_MEM_READ_PROT | UC_HOOK_MEM_WRITE_PROT;
    void* callback = reinterpret_cast<void*>(protected_hook);
    if (is_2_0_) {
      types = UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE;
      callback = reinterpret_cast<void*>(memory_hook);
    } else {
      map_->watch_page(page, {watched_read, watched_write}, watched.get(),
                       logs_reads ? UC_PROT_READ : UC_PROT_NONE);
    }
    check(uc_hook_add(uc_, &watched->hook, types, callback, this, page, page + kPageSize - 1),
          "uc_hook_add");
  }
  return *watched;
}

void Engine::forget_unused(WatchedPage& watched) {
  for (const uint8_t mask : watched.masks) {
    if (mask != 0) return;
  }
  if (watched.has_stops) return;
  const uint64_t page = watched.base;
  check(uc_hook_del(uc_, watched.hook), "uc_hook_del");
  if (!is_2_0_) map_->place(page, kPageSize, SegmentKind::kMemory, nullptr);
  watched_.erase(page);
}

std::vector<AccessRecord> Engine::take_accesses() {
  std::vector<AccessRecord> taken;
  if (shared_.counters[slot::kAccesses] == 0) accesses_.clear();
  taken.swap(accesses_);
  shared_.counters[slot::kAccesses] = 0;
  return taken;
}

uint64_t Engine::watched_read(uc_engine*, uint64_t offset, unsigned size, void* user) {
  const WatchedPage* page = static_cast<WatchedPage*>(user);
  uint64_t value = 0;
  std::memcpy(&value, page->engine->memory_->bytes() + page->base + offset, size);
  if (page->logs_reads) page->engine->log_access(*page, kRead, page->base + offset, size, value);
  return value;
}

void Engine::watched_write(uc_engine*, uint64_t offset, unsigned size, uint64_t value, void* user) {
  const WatchedPage* page = static_cast<WatchedPage*>(user);
  std::memcpy(page->engine->memory_->bytes() + page->base + offset, &value, size);
}

bool Engine::protected_hook(uc_engine*, uc_mem_type type, uint64_t address, int size, int64_t value,
                            void* user) {
  Engine* engine = static_cast<Engine*>(user);
  const bool is_read = type == UC_MEM_READ_PROT;
  const uint64_t bytes = static_cast<uint64_t>(size);
  if (engine->is_to_stop(is_read ? kRead : kWrite, address, bytes)) return false;
  engine->on_watched_access(is_read, address, bytes, static_cast<uint64_t>(value));
  return true;
}

bool Engine::is_to_stop(Access kind, uint64_t address, uint64_t size) {
  if (is_past_watch_) return false;
  const auto found = watched_.find(address & ~kPageMask);
  if (found == watched_.end() || !found->second->has_stops) return false;
  const uint8_t wanted = kind == kRead ? 1 : 2;
  const uint64_t offset = address & kPageMask;
  for (uint64_t at = offset; at < offset + size && at < kPageSize; at++) {
    if ((found->second->stops[at] & wanted) == 0) continue;
    pending_ = Pending::kWatch;
    refused_ = {true, kind, kProtection, address, size};
    return true;
  }
  return false;
}

void Engine::memory_hook(uc_engine*, uc_mem_type type, uint64_t address, int size, int64_t value,
                         void* user) {
  static_cast<Engine*>(user)->on_watched_access(type == UC_MEM_READ, address,
                                                static_cast<uint64_t>(size),
                                                static_cast<uint64_t>(value));
}

void Engine::on_watched_access(bool is_read, uint64_t address, uint64_t size, uint64_t value) {
  const auto found = watched_.find(address & ~kPageMask);
  if (found == watched_.end()) return;
  const WatchedPage& page = *found->second;
  if (is_read) {
    uint64_t read = 0;
    if (address + size <= memory_->size()) std::memcpy(&read, memory_->bytes() + address, size);
    log_access(page, kRead, address, size, read);
    return;
  }
  // Unicorn splits an unaligned store into bytes and asks again for each.
  if (split_left_ > 0 && size == 1 && address - split_base_ < 8) {
    split_left_--;
    return;
  }
  split_left_ = (address & (size - 1)) != 0 ? size : 0;
  split_base_ = address;
  log_access(page, kWrite, address, size, value);
}

bool Engine::WatchedPage::watches(Access kind, uint64_t offset, uint64_t size) const {
  uint64_t wanted = kind == kRead ? 0x0101010101010101 : 0x0202020202020202;
  if (size < 8) wanted &= (1ull << (8 * size)) - 1;
  uint64_t bytes;
  std::memcpy(&bytes, masks.data() + offset, sizeof bytes);
  return (bytes & wanted) != 0;
}

void Engine::log_access(const WatchedPage& page, Access kind, uint64_t address, uint64_t size,
                        uint64_t value) {
  if (!page.watches(kind, address & kPageMask, size)) return;
  const bool has_exact_rip = !is_2_0_ && !(kind == kRead && page.logs_reads);
  const uint64_t rip = !has_exact_rip && block_.range != nullptr
                           ? block_.range->base + block_.start
                           : get_register(UC_X86_REG_RIP);
  if (size < 8) value &= (1ull << (8 * size)) - 1;
  // JavaScript forgets all by setting the count to 0.
  if (shared_.counters[slot::kAccesses] == 0) accesses_.clear();
  accesses_.push_back({address, value, rip, size | (static_cast<uint64_t>(kind) << 8)});
  shared_.counters[slot::kAccesses] = static_cast<double>(accesses_.size());
  if (kind == kWrite) shared_.counters[slot::kLoggedWrites]++;
}

}  // namespace caretaker
