/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SVM_COMPAT_RESUME_H
#define SVM_COMPAT_RESUME_H

/* Does what the thread's TIF flags ask for. May sleep. 0, or -EINTR where a signal is pending. */
int compat_resume_work(void);

#endif
