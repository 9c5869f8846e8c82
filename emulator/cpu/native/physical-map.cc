#include "physical-map.h"

namespace caretaker {

PhysicalMap::PhysicalMap(uc_engine* uc, uint8_t* memory, uint64_t size)
    : uc_(uc), memory_(memory) {
  add(0, {size, SegmentKind::kMemory, memory});
}

void PhysicalMap::place(uint64_t base, uint64_t size, SegmentKind kind, uint8_t* host) {
  carve(base, size);
  add(base, {size, kind, kind == SegmentKind::kMemory ? memory_ + base : host});
}

void PhysicalMap::watch_page(uint64_t base, const WatchCallbacks& callbacks, void* user,
                             uint32_t permissions) {
  constexpr uint64_t kSize = 4096;
  carve(base, kSize);
  segments_[base] = {kSize, SegmentKind::kWatched, memory_ + base};
  check(uc_mmio_map(uc_, base, kSize, callbacks.read, user, callbacks.write, user),
        "uc_mmio_map");
  check(uc_mem_protect(uc_, base, kSize, permissions), "uc_mem_protect");
}

void PhysicalMap::carve(uint64_t base, uint64_t size) {
  const uint64_t end = base + size;
  auto at = segments_.upper_bound(base);
  if (at != segments_.begin()) --at;
  while (at != segments_.end() && at->first < end) {
    const uint64_t first = at->first;
    const Segment segment = at->second;
    const uint64_t last = first + segment.size;
    if (last <= base) {
      ++at;
      continue;
    }
    check(uc_mem_unmap(uc_, first, segment.size), "uc_mem_unmap");
    at = segments_.erase(at);
    // What is left over of a copy of code is model memory again: its range is about to be defined anew.
    if (first < base) add(first, {base - first, SegmentKind::kMemory, memory_ + first});
    if (last > end) add(end, {last - end, SegmentKind::kMemory, memory_ + end});
    at = segments_.lower_bound(base);
  }
}

void PhysicalMap::add(uint64_t base, const Segment& segment) {
  segments_[base] = segment;
  const uint32_t permissions =
      segment.kind == SegmentKind::kCode ? UC_PROT_ALL : UC_PROT_READ | UC_PROT_WRITE;
  check(uc_mem_map_ptr(uc_, base, segment.size, permissions, segment.host), "uc_mem_map_ptr");
}

}  // namespace caretaker
