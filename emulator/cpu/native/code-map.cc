#include "code-map.h"

#include <cstring>

namespace caretaker {

CodeRange::CodeRange(uint64_t base, uint64_t size, uint32_t ordinal)
    : base(base),
      size(size),
      ordinal(ordinal),
      copy_(size),
      info_(size + 1) {}

void CodeRange::define(const uint8_t* true_bytes, const uint8_t* flags,
                       std::vector<CodeSite> sites) {
  std::memcpy(copy_.bytes(), true_bytes, size);
  uint32_t instructions = 0;
  uint32_t stores = 0;
  for (uint64_t offset = 0; offset <= size; offset++) {
    const uint8_t flag = offset < size ? flags[offset] : 0;
    info_[offset] = {instructions, stores, -1, flag};
    if ((flag & kBoundary) != 0) instructions++;
    if ((flag & kStore) != 0) stores++;
  }
  sites_ = std::move(sites);
  for (size_t index = 0; index < sites_.size(); index++) {
    const CodeSite& site = sites_[index];
    info_[site.offset].site = static_cast<int32_t>(index);
    if (site.how != Inline::kNone && site.length > 2) info_[site.offset + 2].flags |= kResume;
    patch(site);
  }
}

const CodeSite* CodeRange::site(uint64_t offset) const {
  const int32_t index = info_[offset].site;
  return index < 0 ? nullptr : &sites_[static_cast<size_t>(index)];
}

void CodeRange::patch(const CodeSite& site) {
  uint8_t* at = copy_.bytes() + site.offset;
  if (site.how == Inline::kNone) {
    at[0] = kStopByte;
    return;
  }
  at[0] = 0x0f;  // SYSCALL
  at[1] = 0x05;
  std::memset(at + 2, 0x90, site.length - 2u);
}

void CodeRange::write_running(uint64_t offset, uint32_t length, const uint8_t* true_bytes) {
  std::memcpy(copy_.bytes() + offset, true_bytes, length);
  const CodeSite* found = site(offset);
  if (found != nullptr) patch(*found);
}

uint64_t CodeRange::next_boundary(uint64_t offset) const {
  uint64_t next = offset + 1;
  while (next < size && (info_[next].flags & kBoundary) == 0) next++;
  return next;
}

}  // namespace caretaker
