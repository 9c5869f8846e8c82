// Plain C over libunicorn: the exits of a trace, from HOST_RIP to VM entry, and nothing else. The yardstick of `bench`.
//
// harness TRACE SECONDS: replays the trace once while checking that every segment ends where the machine's ended, with
// the same registers and instruction count; then again and again for SECONDS, and prints one line of
// JSON. The trace is what trace.ts writes: 64-bit words, little-endian.
// The same as in the binding: pages and permissions, page tables, VMREAD, VMWRITE and RDTSC answered in line through
// SYSCALL, a stop byte at every other site, edge coverage by block, instructions counted by block.
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unicorn/unicorn.h>

#define MAGIC 0x3145434152544b43ull
#define PAGE 4096ull
#define TABLES 0xf0000000ull
#define TABLES_SIZE (8ull << 20)
#define STOP_BYTE 0x06
#define ARITHMETIC 0x8d5ull
#define CR0 0x80010033ull
#define CR4 0x620ull
#define EFER 0xd00ull
#define REGISTERS 20
enum { RAX = 0, RDX = 2, RIP = 16, RFLAGS = 17, HELD = 18 };
enum { VMREAD = 1, VMWRITE = 2, RDTSC = 3 };
enum { READABLE = 1, WRITABLE = 2, POISON = 4 };

static const int kIds[REGISTERS] = {
    UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX, UC_X86_REG_RSP,
    UC_X86_REG_RBP, UC_X86_REG_RSI, UC_X86_REG_RDI, UC_X86_REG_R8, UC_X86_REG_R9,
    UC_X86_REG_R10, UC_X86_REG_R11, UC_X86_REG_R12, UC_X86_REG_R13, UC_X86_REG_R14,
    UC_X86_REG_R15, UC_X86_REG_RIP, UC_X86_REG_EFLAGS, UC_X86_REG_FS_BASE, UC_X86_REG_GS_BASE,
};

struct site {
  uint8_t how, rm, reg, length;
};

static uc_engine *uc;
static int is_2_0;
static uint8_t *memory, *tables;
static uint64_t memory_size, tables_used;
static struct site *site_at;      // by address
static uint32_t *instructions_at; // by address: instructions that begin below
static uint16_t slot_of[65536];
static uint64_t *vmcs, slots;
static uint8_t *vmcs_flags;
static uint8_t coverage[65536];
static uint32_t previous_location;
static uint64_t executed, block_start, block_end, tsc_base, accesses, refused_at;
static uint64_t roots[64];

static void fail(const char *what) {
  fprintf(stderr, "harness: %s\n", what);
  exit(1);
}
static void ok(uc_err error, const char *what) {
  if (error != UC_ERR_OK) {
    fprintf(stderr, "harness: %s: %s\n", what, uc_strerror(error));
    exit(1);
  }
}

static uint64_t get(int id) {
  uint64_t value = 0;
  uc_reg_read(uc, id, &value);
  return value;
}
static void set(int id, uint64_t value) { uc_reg_write(uc, id, &value); }

static void retire(void) {
  executed += instructions_at[block_end] - instructions_at[block_start];
  block_start = block_end;
}

static void on_block(uc_engine *engine, uint64_t address, uint32_t size, void *user) {
  (void)engine;
  (void)user;
  retire();
  block_start = address;
  block_end = address + size;
  const uint32_t location = ((uint32_t)address * 0x9e3779b1u) >> 16;
  uint8_t *seen = &coverage[(location ^ previous_location) & 0xffff];
  if (*seen != 255) (*seen)++;
  previous_location = location >> 1;
}

static void refuse(uint64_t address) {
  refused_at = address;
  uc_emu_stop(uc);
}

static void on_syscall(uc_engine *engine, void *user) {
  (void)engine;
  (void)user;
  const uint64_t address = block_end - 2;
  const struct site *site = &site_at[address];
  if (site->how == RDTSC) {
    const uint64_t tsc =
        tsc_base + executed + instructions_at[address] - instructions_at[block_start];
    set(UC_X86_REG_RAX, tsc & 0xffffffff);
    set(UC_X86_REG_RDX, tsc >> 32);
    return;
  }
  const uint64_t encoding = get(kIds[site->reg]);
  const uint16_t slot = encoding > 0xffff || (encoding & 1) != 0 ? 0xffff : slot_of[encoding];
  if (slot >= slots) {
    refuse(address);
    return;
  }
  if (site->how == VMREAD) {
    if ((vmcs_flags[slot] & (READABLE | POISON)) != READABLE) {
      refuse(address);
      return;
    }
    set(kIds[site->rm], vmcs[slot]);
  } else {
    if ((vmcs_flags[slot] & WRITABLE) == 0) {
      refuse(address);
      return;
    }
    static const uint64_t mask[] = {0xffff, UINT64_MAX, 0xffffffff, UINT64_MAX};
    vmcs[slot] = get(kIds[site->rm]) & mask[(encoding >> 13) & 3];
    vmcs_flags[slot] &= (uint8_t)~POISON;
  }
  accesses++;
  set(UC_X86_REG_EFLAGS, get(UC_X86_REG_EFLAGS) & ~ARITHMETIC);
}

static uint64_t *table_below(uint64_t *entry) {
  if (*entry == 0) {
    if (tables_used == TABLES_SIZE) fail("no room for page tables");
    *entry = (TABLES + tables_used) | 0x23;
    tables_used += PAGE;
  }
  return (uint64_t *)(tables + ((*entry & ~0xfffull) - TABLES));
}

static void map(uint64_t root, uint64_t base, uint64_t size, uint64_t permissions) {
  for (uint64_t page = base; page < base + size; page += PAGE) {
    uint64_t *table = (uint64_t *)(tables + (root - TABLES));
    for (int shift = 39; shift > 12; shift -= 9) table = table_below(&table[(page >> shift) & 511]);
    uint64_t leaf = page | 0x61;
    if ((permissions & 1) != 0) leaf |= 2;
    if ((permissions & 2) == 0 && !is_2_0) leaf |= 1ull << 63;
    table[(page >> 12) & 511] = leaf;
  }
}

static void activate(uint64_t space) {
  static int toggle;
  set(UC_X86_REG_CR3, roots[space]);
  if (!is_2_0) return;
  toggle = !toggle;
  uc_mem_protect(uc, TABLES + TABLES_SIZE, PAGE, toggle ? UC_PROT_READ : UC_PROT_ALL);
}

static uint64_t *words;
static size_t word_count;
static uint64_t *next;
static uint64_t take(void) {
  if (next >= words + word_count) fail("the trace ends early");
  return *next++;
}

static void load(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail("the trace cannot be read");
  const long size = ftell(file);
  if (size < 16 || size % 8 != 0) fail("the trace is no row of 64-bit words");
  rewind(file);
  words = malloc((size_t)size);
  word_count = (size_t)size / 8;
  if (words == NULL || fread(words, 8, word_count, file) != word_count) fail("cannot be read");
  fclose(file);
  next = words;
  if (take() != MAGIC) fail("not a trace");
}

static void *zeroed(size_t size) {
  void *at =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) fail("no memory");
  return at;
}

// Opens the engine over what the trace begins with; `next` is at the first segment then.
static uint64_t *pages, page_count;
static void set_up(void) {
  unsigned major, minor;
  uc_version(&major, &minor);
  is_2_0 = major == 2 && minor == 0;
  memory_size = take();
  memory = zeroed(memory_size);
  tables = zeroed(TABLES_SIZE);
  site_at = zeroed(memory_size * sizeof *site_at);
  instructions_at = zeroed((memory_size + 1) * sizeof *instructions_at);
  ok(uc_open(UC_ARCH_X86, UC_MODE_64, &uc), "uc_open");
  ok(uc_ctl_set_cpu_model(uc, UC_CPU_X86_HASWELL), "uc_ctl_set_cpu_model");
  const uint64_t spaces = take();
  if (spaces > 64) fail("too many address spaces");
  for (uint64_t space = 0; space < spaces; space++) {
    roots[space] = TABLES + tables_used;
    tables_used += PAGE;
    for (uint64_t left = take(); left > 0; left--) {
      const uint64_t base = take(), size = take(), permissions = take();
      map(roots[space], base, size, permissions);
    }
  }
  // Bit 0 of a page's address says that it is code.
  page_count = take();
  pages = next;
  for (uint64_t page = 0; page < page_count; page++) {
    memcpy(memory + (next[0] & ~1ull), next + 1, PAGE);
    next += 513;
  }
  // Code ranges: what each byte begins, then sites.
  uint64_t mapped = 0;
  for (uint64_t left = take(); left > 0; left--) {
    const uint64_t base = take(), size = take();
    if (base > mapped)
      ok(uc_mem_map_ptr(uc, mapped, base - mapped, UC_PROT_READ | UC_PROT_WRITE, memory + mapped),
         "uc_mem_map_ptr");
    ok(uc_mem_map_ptr(uc, base, size, UC_PROT_ALL, memory + base), "uc_mem_map_ptr");
    mapped = base + size;
    const uint8_t *flags = (const uint8_t *)next;
    uint32_t count = 0;
    for (uint64_t at = 0; at < size; at++) {
      instructions_at[base + at] = count;
      count += flags[at] & 1;
    }
    instructions_at[base + size] = count;
    next += size / 8;
  }
  ok(uc_mem_map_ptr(uc, mapped, memory_size - mapped, UC_PROT_READ | UC_PROT_WRITE,
                    memory + mapped),
     "uc_mem_map_ptr");
  for (uint64_t left = take(); left > 0; left--) {
    const uint64_t address = take(), packed = take();
    const struct site site = {(uint8_t)packed, (uint8_t)(packed >> 8), (uint8_t)(packed >> 16),
                              (uint8_t)(packed >> 24)};
    site_at[address] = site;
    if (site.how == 0) {
      memory[address] = STOP_BYTE;
    } else {
      memset(memory + address, 0x90, site.length);
      memory[address] = 0x0f;
      memory[address + 1] = 0x05;
    }
  }
  memcpy(slot_of, next, sizeof slot_of);
  next += sizeof slot_of / 8;
  slots = take();
  vmcs = zeroed(slots * 8);
  vmcs_flags = zeroed(slots);

  ok(uc_mem_map_ptr(uc, TABLES, TABLES_SIZE, UC_PROT_READ | UC_PROT_WRITE, tables), "tables");
  ok(uc_mem_map(uc, TABLES + TABLES_SIZE, PAGE, UC_PROT_ALL), "uc_mem_map");
  uc_hook hook;
  ok(uc_hook_add(uc, &hook, UC_HOOK_BLOCK, (void *)on_block, NULL, 1, 0), "uc_hook_add");
  ok(uc_hook_add(uc, &hook, UC_HOOK_INSN, (void *)on_syscall, NULL, 1, 0, UC_X86_INS_SYSCALL),
     "uc_hook_add");
  set(UC_X86_REG_CR4, CR4);
  if (!is_2_0) {
    uc_x86_msr efer = {0xc0000080, EFER};
    ok(uc_reg_write(uc, UC_X86_REG_MSR, &efer), "EFER.NXE");
  }
  set(UC_X86_REG_CR3, roots[0]);
  set(UC_X86_REG_CR0, CR0);
}

// A segment: one stay in the payload. Words: is_exit, space, TSC, registers[20], count and (address, value) of memory,
// count and (slot | flags << 32, value) of VMCS fields; then what it came to: RIP, instructions, registers[18].
static uint64_t exits, total_instructions;
static void replay(uint64_t *segments, uint64_t count, int checks) {
  static uint64_t held[REGISTERS];
  static uint64_t space = UINT64_MAX;
  next = segments;
  for (uint64_t segment = 0; segment < count; segment++) {
    exits += *next++;
    const uint64_t wanted_space = *next++;
    if (wanted_space != space) activate(space = wanted_space);
    tsc_base = *next++;
    uint64_t *registers = next;
    next += REGISTERS;
    for (uint64_t left = *next++; left > 0; left--, next += 2)
      memcpy(memory + next[0], next + 1, 8);
    for (uint64_t left = *next++; left > 0; left--, next += 2) {
      const uint32_t slot = (uint32_t)next[0];
      vmcs_flags[slot] = (uint8_t)(next[0] >> 32);
      vmcs[slot] = next[1];
    }
    int ids[REGISTERS];
    void *values[REGISTERS];
    int changed = 0;
    for (int index = 0; index < REGISTERS; index++) {
      if (index == RIP || held[index] == registers[index]) continue;
      ids[changed] = kIds[index];
      values[changed++] = &registers[index];
      held[index] = registers[index];
    }
    uc_reg_write_batch(uc, ids, values, changed);
    executed = block_start = block_end = refused_at = 0;
    const uc_err error = uc_emu_start(uc, registers[RIP], 0, 0, 0);
    for (int index = 0; index < HELD; index++) {
      ids[index] = kIds[index];
      values[index] = &held[index];
    }
    held[RFLAGS] = 0;
    uc_reg_read_batch(uc, ids, values, HELD);
    uint64_t rip = refused_at != 0 ? refused_at : held[RIP];
    if (rip >= block_start && rip < block_end) block_end = rip;
    retire();
    total_instructions += executed;
    uint64_t *expected = next;
    next += 2 + HELD;
    if (rip != expected[0] || (error != UC_ERR_INSN_INVALID && refused_at == 0)) {
      fprintf(stderr, "harness: segment %" PRIu64 " ends at %" PRIx64 " (%s), not at %" PRIx64 "\n",
              segment, rip, uc_strerror(error), expected[0]);
      exit(1);
    }
    if (!checks) continue;
    if (executed != expected[1]) {
      fprintf(stderr, "harness: segment %" PRIu64 " took %" PRIu64 " instructions, not %" PRIu64 "\n",
              segment, executed, expected[1]);
      exit(1);
    }
    for (int index = 0; index < HELD; index++) {
      if (index == RIP || held[index] == expected[2 + index]) continue;
      fprintf(stderr, "harness: segment %" PRIu64 ": register %d is %" PRIx64 ", not %" PRIx64 "\n",
              segment, index, held[index], expected[2 + index]);
      exit(1);
    }
  }
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// Memory as it was before the first segment, but for the code, which is patched and never written.
static void rewind_memory(const uint8_t *first) {
  for (uint64_t page = 0; page < page_count; page++)
    if ((pages[page * 513] & 1) == 0) memcpy(memory + pages[page * 513], first + page * PAGE, PAGE);
}

int main(int argc, char **argv) {
  if (argc != 3) fail("usage: harness TRACE SECONDS");
  load(argv[1]);
  const double wanted = atof(argv[2]);
  set_up();
  const uint64_t count = take();
  uint64_t *segments = next;
  uint8_t *first = malloc(page_count * PAGE);
  for (uint64_t page = 0; page < page_count; page++)
    memcpy(first + page * PAGE, memory + (pages[page * 513] & ~1ull), PAGE);

  replay(segments, count, 1);
  if (next != words + word_count) fail("the trace does not end after its last segment");
  exits = accesses = total_instructions = 0;
  double spent = 0;
  while (spent < wanted) {
    rewind_memory(first);
    const double begun = seconds();
    replay(segments, count, 0);
    spent += seconds() - begun;
  }
  printf("{\"exits\":%" PRIu64 ",\"seconds\":%.6f,\"exitsPerSecond\":%.1f,\"accessesPerExit\":%.3f,"
         "\"instructionsPerExit\":%.2f}\n",
         exits, spent, (double)exits / spent, (double)accesses / (double)exits,
         (double)total_instructions / (double)exits);
  return 0;
}
