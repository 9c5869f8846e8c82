// What an engine maps: address spaces as page tables in its arena, and the pages that hold code, of which it runs a copy.
#include <algorithm>

#include "engine.h"

namespace caretaker {

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
  known_block(address).address = KnownBlock::kNone;
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
