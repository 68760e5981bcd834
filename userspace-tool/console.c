// SPDX-License-Identifier: GPL-2.0
/* The user's side of the serial line, in the main thread: terminal, signals, escape key. */
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <termios.h>

#include "vm.h"

enum { ESCAPE = 0x01 /* Ctrl-a */, GATHER_MS = 4 /* output waits this long for more of it */ };

static struct termios saved;
static volatile sig_atomic_t raw;
static int signals = -1;

/* Async-signal-safe, for fatal signals. In the background the terminal is not ours. */
static void restore(void)
{
	if (raw && tcgetpgrp(STDIN_FILENO) == getpgrp())
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	raw = 0;
}

static void make_raw(void)
{
	struct termios t;

	if (raw || tcgetattr(STDIN_FILENO, &saved))
		return; /* not a terminal: nothing to change */
	t = saved;
	cfmakeraw(&t);
	raw = !tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

static void fatal_signal(int sig)
{
	restore();
	raise(sig); /* SA_RESETHAND: this time it kills */
}

static void kick(int sig)
{
	(void)sig; /* to be interrupted is all a vCPU's thread needs */
}

/* Puts signals in order; the terminal is left alone until console_loop(). */
int console_init(void)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };
	static const int polite[] = { SIGINT,	 SIGTERM, SIGHUP,  SIGQUIT,  SIGTSTP,
				      SIGCONT,	 SIGUSR2, SIGALRM, SIGIO,    SIGPROF,
				      SIGVTALRM, SIGXCPU, SIGPWR,  SIGSTKFLT };
	struct sigaction crash = { .sa_handler = fatal_signal, .sa_flags = SA_RESETHAND };
	sigset_t set;

	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		sigaction(fatal[i], &crash, NULL);
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = kick }, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a disk's write past a limit is the guest's I/O error */
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(polite) / sizeof(polite[0]); i++)
		sigaddset(&set, polite[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	atexit(restore);
	return signals < 0 ? complain("cannot set up signals: %s", strerror(errno)) : 0;
}

static void take_signal(struct vm *vm)
{
	struct signalfd_siginfo info;

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGTSTP) {
		restore();
		raise(SIGSTOP);
	} else if (info.ssi_signo == SIGCONT) {
		make_raw();
	} else {
		vm_stop(vm, VM_QUIT, EXIT_SIGNAL + info.ssi_signo, "ended by signal %u (%s)",
			info.ssi_signo, strsignal(info.ssi_signo));
	}
}

/* Takes the escape sequences out of what was typed; returns how much is left for the guest. */
static unsigned int filter_escapes(struct vm *vm, uint8_t *data, unsigned int count)
{
	static bool escaped;
	unsigned int kept = 0;

	for (unsigned int i = 0; i < count; i++) {
		bool after = escaped;

		escaped = !after && data[i] == ESCAPE;
		if (after && data[i] == 'x')
			vm_stop(vm, VM_QUIT, EXIT_OK, "ended by Ctrl-a x");
		else if (after && (data[i] == 'a' || data[i] == ESCAPE))
			data[kept++] = ESCAPE;
		else if (after)
			fputs("\r\nCtrl-a x ends the guest, Ctrl-a a sends Ctrl-a\r\n", stderr);
		else if (!escaped)
			data[kept++] = data[i];
	}
	return kept;
}

/* How much the guest can take: input is for its virtio console if it has one. */
static unsigned int input_room(struct vm *vm)
{
	return vm->console ? virtio_console_room(vm) : serial_room(vm);
}

/* False at the end of input, after which the guest simply hears no more. */
static bool take_input(struct vm *vm)
{
	uint8_t data[INPUT_SIZE];
	ssize_t count = read(STDIN_FILENO, data, input_room(vm));

	if (count > 0)
		(vm->console ? virtio_console_input : serial_input)(
			vm, data, raw ? filter_escapes(vm, data, count) : count);
	return count > 0 || (count < 0 && (errno == EINTR || errno == EAGAIN));
}

/*
 * Output gathers until the main thread takes it, so that a burst of characters costs one write(). A
 * terminal that takes nothing stalls the guest, like a line with flow control. Called with vm->lock
 * held, once. False if the VM has stopped and there is no more room.
 */
bool console_output(struct vm *vm, const uint8_t *data, unsigned int count)
{
	struct output *o = &vm->output;

	for (; count; count--) {
		while (o->count == sizeof(o->data) && vm->state == VM_RUNNING)
			pthread_cond_wait(&o->room, &vm->lock);
		if (o->count == sizeof(o->data))
			return false;
		o->data[o->count++] = *data++;
		if (o->count == 1 || o->count == sizeof(o->data) / 2)
			eventfd_write(vm->event, 1);
	}
	return true;
}

/* Writes what has gathered. */
void console_flush(struct vm *vm)
{
	static uint8_t data[sizeof(vm->output.data)];
	unsigned int count, done = 0;

	pthread_mutex_lock(&vm->lock);
	count = vm->output.count;
	memcpy(data, vm->output.data, count);
	vm->output.count = 0;
	pthread_cond_broadcast(&vm->output.room);
	pthread_mutex_unlock(&vm->lock);

	while (done < count) {
		struct pollfd fds[] = { { STDOUT_FILENO, POLLOUT, 0 }, { signals, POLLIN, 0 } };
		unsigned int chunk = count - done < 4096 ? count - done : 4096; /* fits a pipe */
		ssize_t n = 0;

		/* A reader that has stalled must not make us deaf to signals, or stay for ever. */
		if (!poll(fds, 2, vm->state == VM_RUNNING ? -1 : 1000))
			return;
		if (fds[1].revents)
			take_signal(vm);
		if (fds[0].revents)
			n = write(STDOUT_FILENO, data + done, chunk);
		if (n < 0 && errno != EINTR && errno != EAGAIN) {
			vm_stop(vm, VM_FAILED, EXIT_HOST, "lost the output: %s", strerror(errno));
			return;
		}
		done += n > 0 ? n : 0;
	}
}

/* Is the terminal of a running VM, until it stops. */
void console_loop(struct vm *vm)
{
	static bool input_open = true; /* across a guest's reboot */
	bool gathering = false;
	uint64_t events;

	make_raw();
	while (vm->state == VM_RUNNING) {
		int input = input_open && input_room(vm) ? STDIN_FILENO : -1;
		struct pollfd fds[] = { { signals, POLLIN, 0 },
					{ vm->event, POLLIN, 0 },
					{ input, POLLIN, 0 } };
		int ready = poll(fds, 3, gathering ? GATHER_MS : -1);

		if (fds[0].revents)
			take_signal(vm);
		if (fds[2].revents)
			input_open = take_input(vm);
		/* A burst's first byte starts the wait; its end, or a buffer half full, ends it. */
		if (fds[1].revents)
			eventfd_read(vm->event, &events);
		if (!ready || (gathering && fds[1].revents))
			console_flush(vm);
		gathering = ready && gathering != !!fds[1].revents;
	}
	console_flush(vm);
	restore();
}
