// The engine's own page tables: what the CPU below the model walks, outside model memory.
//
// Linear = physical. A/D bits are Unicorn's: a set dirty bit is how a written page is known at no cost, because Unicorn
// makes a page writable in its TLB only once the bit is set.
// Invariant: a page whose code has been swept is never writable here, whatever the model's tables say: the engine lets
// each store through one by one. A page is executable here only when its code has been swept.
#ifndef CARETAKER_PAGE_TABLES_H
#define CARETAKER_PAGE_TABLES_H

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "shared-memory.h"

namespace caretaker {

// Pages for tables, at one physical place below 4 GiB: Unicorn 2.1.4 truncates CR3 to 32 bits.
class TableArena {
 public:
  static constexpr uint64_t kBase = 0xf0000000;
  static constexpr uint64_t kSize = 64 << 20;

  TableArena() : memory_(kSize) {}
  uint8_t* bytes() const { return memory_.bytes(); }
  // A zeroed page; throws std::length_error when all are in use.
  uint64_t* allocate();
  void release(uint64_t* page);
  uint64_t address_of(const uint64_t* page) const;
  uint64_t* at(uint64_t address) const;

 private:
  SharedMemory memory_;
  uint64_t used_ = 0;
  std::vector<uint64_t*> free_;
};

struct LinearRange {
  uint64_t base;
  uint64_t size;
  bool writable;
  bool executable;
  // Read-only for every store but those of CALL, event delivery and the shadow-stack instructions.
  bool shadow_stack = false;
};

class PageTables {
 public:
  // With `no_execute`, leaves that may not run carry the NX bit.
  PageTables(TableArena& arena, bool no_execute);
  ~PageTables();
  PageTables(const PageTables&) = delete;
  PageTables& operator=(const PageTables&) = delete;

  void map(const LinearRange& range);
  uint64_t root() const { return arena_.address_of(root_); }
  // The leaf of a mapped page, null where nothing is mapped.
  uint64_t* leaf(uint64_t address) const;
  // The range holds swept code: its executable pages may run and none of it may be written, or it is data again. The
  // model's view stays.
  void set_code(uint64_t base, uint64_t size, bool is_code);
  bool is_writable(uint64_t address) const;
  bool is_executable(uint64_t address) const;
  // The shadow-stack range that holds an address, null for none.
  const LinearRange* shadow_stack_at(uint64_t address) const;
  // The page was written past Unicorn.
  void mark_written(uint64_t address);
  // One byte a page of a code range: whether it may execute here. Kept for each ordinal, which has one range for ever.
  const uint8_t* executable_pages(uint32_t ordinal, uint64_t base, uint64_t size);
  const std::vector<LinearRange>& ranges() const { return ranges_; }
  // Calls `found` with each page written since the last call, and forgets them. True when there was one.
  bool take_dirty(const std::function<void(uint64_t)>& found);

 private:
  static constexpr uint64_t kPresent = 1, kWritable = 2, kAccessed = 0x20, kDirty = 0x40;
  static constexpr uint64_t kNoExecute = 1ull << 63, kAddress = 0x000ffffffffff000ull;

  uint64_t* table_below(uint64_t* entry);
  const LinearRange* range_of(uint64_t address) const;

  TableArena& arena_;
  bool no_execute_;
  uint64_t* root_;
  std::vector<uint64_t*> tables_;
  struct LeafTable {
    uint64_t* parent_entry;
    uint64_t* leaves;
    uint64_t base;
  };
  std::vector<LeafTable> leaf_tables_;
  std::vector<LinearRange> ranges_;
  std::unordered_map<uint32_t, std::vector<uint8_t>> executable_;
};

}  // namespace caretaker

#endif
