/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the guest of the selftest popek writes to ports, on any machine.
 */
#ifndef POPEK_PORTS_H
#define POPEK_PORTS_H

#define PORT_MARK 0xe8 /* the runs of a form come next */
#define PORT_TEXT 0xe9 /* a character: QEMU's isa-debugcon */
#define PORT_DONE 0xea /* and these were they */
#define PORT_END  0xf4 /* the end: QEMU's isa-debug-exit */

#endif
