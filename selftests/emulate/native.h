/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SELFTESTS_EMULATE_NATIVE_H
#define SELFTESTS_EMULATE_NATIVE_H

/** test_native() - random instructions in the emulator and on the CPU; $SEED and $ROUNDS change the run. */
void test_native(void);

#endif
