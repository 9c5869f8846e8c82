// Where a saved Unicorn context keeps two values that its interface does not show.
//
// Unicorn never forgets the exception in flight, so that the second contributory fault becomes a double fault; and it
// does not tell the error code of a page fault. Both lie in a saved context. Their places are found by raising known
// faults in a scratch engine, once a process, so that no layout of a certain version is assumed.
#ifndef CARETAKER_CONTEXT_LAYOUT_H
#define CARETAKER_CONTEXT_LAYOUT_H

#include <unicorn/unicorn.h>

#include <cstddef>
#include <cstdint>

namespace caretaker {

struct ContextLayout {
  size_t old_exception;
  size_t error_code;
};

// Throws std::runtime_error when the two cannot be found.
const ContextLayout& context_layout();

// CR0 with paging and write protection, CR4 with PAE and SSE: what every engine here runs with.
constexpr uint64_t kCr0 = 0x80010033;
constexpr uint64_t kCr4 = 0x620;

}  // namespace caretaker

#endif
