/* A guest of sixteen bits: what a processor runs right after reset. No mode is set, no table is loaded.
 * minivm puts it at 0x7c00, where a BIOS puts a boot sector, and enters it there with all segments at 0. */
.code16
.globl start
start:
    mov $0x3f8, %dx                 /* COM1: a byte written here is sent */
    mov $message, %si
    cld
1:  lodsb
    test %al, %al
    jz 2f
    outb %al, %dx
    jmp 1b
2:  mov $0x501, %dx                 /* debug-exit: ends the machine with this status */
    xor %al, %al
    outb %al, %dx
    hlt                             /* where there is no such device, this ends the machine too */

message:
    .asciz "Hello from 16-bit real mode.\r\n"
