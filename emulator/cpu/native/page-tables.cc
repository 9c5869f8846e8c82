#include "page-tables.h"

#include <cstring>
#include <stdexcept>

namespace caretaker {

uint64_t* TableArena::allocate() {
  if (!free_.empty()) {
    uint64_t* page = free_.back();
    free_.pop_back();
    std::memset(page, 0, kPageSize);
    return page;
  }
  if (used_ == kSize) throw std::length_error("no room for more page tables");
  uint64_t* page = reinterpret_cast<uint64_t*>(memory_.bytes() + used_);
  used_ += kPageSize;
  return page;
}

void TableArena::release(uint64_t* page) { free_.push_back(page); }

uint64_t TableArena::address_of(const uint64_t* page) const {
  return kBase + static_cast<uint64_t>(reinterpret_cast<const uint8_t*>(page) - memory_.bytes());
}

uint64_t* TableArena::at(uint64_t address) const {
  return reinterpret_cast<uint64_t*>(memory_.bytes() + (address - kBase));
}

PageTables::PageTables(TableArena& arena, bool no_execute)
    : arena_(arena), no_execute_(no_execute), root_(arena.allocate()) {
  tables_.push_back(root_);
}

PageTables::~PageTables() {
  for (uint64_t* table : tables_) arena_.release(table);
}

uint64_t* PageTables::table_below(uint64_t* entry) {
  if ((*entry & kPresent) != 0) return arena_.at(*entry & kAddress);
  uint64_t* table = arena_.allocate();
  tables_.push_back(table);
  *entry = arena_.address_of(table) | kPresent | kWritable | kAccessed;
  return table;
}

void PageTables::map(const LinearRange& range) {
  ranges_.push_back(range);
  for (uint64_t page = range.base; page < range.base + range.size; page += kPageSize) {
    uint64_t* pdpt = table_below(&root_[(page >> 39) & 511]);
    uint64_t* directory = table_below(&pdpt[(page >> 30) & 511]);
    uint64_t* entry = &directory[(page >> 21) & 511];
    const bool is_new = (*entry & kPresent) == 0;
    uint64_t* leaves = table_below(entry);
    if (is_new) leaf_tables_.push_back({entry, leaves, page & ~0x1fffffull});
    uint64_t value = page | kPresent | kAccessed;
    if (range.writable) value |= kWritable;
    if (no_execute_) value |= kNoExecute;
    leaves[(page >> 12) & 511] = value;
  }
}

uint64_t* PageTables::leaf(uint64_t address) const {
  uint64_t* table = root_;
  for (const int shift : {39, 30, 21}) {
    const uint64_t entry = table[(address >> shift) & 511];
    if ((entry & kPresent) == 0) return nullptr;
    table = arena_.at(entry & kAddress);
  }
  uint64_t* found = &table[(address >> 12) & 511];
  return (*found & kPresent) != 0 ? found : nullptr;
}

void PageTables::set_code(uint64_t base, uint64_t size, bool is_code) {
  for (uint64_t page = base; page < base + size; page += kPageSize) {
    uint64_t* found = leaf(page);
    if (found == nullptr) continue;
    const LinearRange& range = *range_of(page);
    if (range.writable) *found = is_code ? *found & ~kWritable : *found | kWritable;
    if (range.executable && no_execute_) {
      *found = is_code ? *found & ~kNoExecute : *found | kNoExecute;
    }
  }
}

const LinearRange* PageTables::range_of(uint64_t address) const {
  for (const LinearRange& range : ranges_) {
    if (address - range.base < range.size) return &range;
  }
  return nullptr;
}

bool PageTables::is_writable(uint64_t address) const {
  const LinearRange* range = range_of(address);
  return range != nullptr && range->writable;
}

bool PageTables::is_executable(uint64_t address) const {
  const LinearRange* range = range_of(address);
  return range != nullptr && range->executable;
}

const LinearRange* PageTables::shadow_stack_at(uint64_t address) const {
  const LinearRange* range = range_of(address);
  return range != nullptr && range->shadow_stack ? range : nullptr;
}

void PageTables::mark_written(uint64_t address) {
  *leaf(address) |= kDirty;
  for (const LeafTable& table : leaf_tables_) {
    if (table.base == (address & ~0x1fffffull)) *table.parent_entry |= kAccessed;
  }
}

const uint8_t* PageTables::executable_pages(uint32_t ordinal, uint64_t base, uint64_t size) {
  std::vector<uint8_t>& pages = executable_[ordinal];
  if (pages.empty()) {
    pages.resize(size / kPageSize);
    for (uint64_t page = 0; page < pages.size(); page++) {
      pages[page] = is_executable(base + page * kPageSize) ? 1 : 0;
    }
  }
  return pages.data();
}

bool PageTables::take_dirty(const std::function<void(uint64_t)>& found) {
  bool any = false;
  for (const LeafTable& table : leaf_tables_) {
    // A page is written only after a walk, and a walk sets the accessed bit above it.
    if ((*table.parent_entry & kAccessed) == 0) continue;
    *table.parent_entry &= ~kAccessed;
    for (uint64_t index = 0; index < 512; index++) {
      if ((table.leaves[index] & kDirty) == 0) continue;
      table.leaves[index] &= ~kDirty;
      found(table.base + (index << 12));
      any = true;
    }
  }
  return any;
}

}  // namespace caretaker
