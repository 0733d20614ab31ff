/* What minivm hands over in RDI: the same structure as minivm/boot/bootinfo.py packs. Both are little-endian
 * with no padding that is not named here. */
#ifndef BOOTINFO_H
#define BOOTINFO_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define BOOTINFO_MAGIC 0x31304d56494e494dul /* "MINIVM01" */

enum { REGION_RAM = 1, REGION_RESERVED = 2 }; /* numbers as in the E820 map of a PC */

struct region {
    u64 base, size; /* bytes */
    u32 type;       /* REGION_* */
    u32 padding;
};

struct bootinfo {
    u64 magic;
    u64 cmdline;     /* guest-physical address of a NUL-terminated string */
    u32 regions;     /* how many follow */
    u32 padding;
    struct region map[];
};

#endif
