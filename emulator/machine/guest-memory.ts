/** The memory of each VM's guest, from guest-physical address 0 on. */

export const GUEST_MEMORY_PAGES = 64;
