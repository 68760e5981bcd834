// SPDX-License-Identifier: GPL-2.0
/*
 * Popek and Goldberg: one guest (popek/) runs every sensitive instruction that is not privileged in
 * every mode and at every CPL, and prints a hash of what came of it.
 *
 * Equivalence: the hashes on a bare QEMU (test "bare", on the build host, which leaves them in
 * popek.bare beside this program), on svm.ko and on kvm_amd are the same.  Resource control: a
 * guest that spins with interrupts off gives the CPU back, and nothing outside its memory changes.
 * Efficiency: none of these instructions exits.
 *
 * POPEK_VERBOSE prints the table even where nothing has failed; POPEK_DUMP=DIR leaves what the
 * guest printed there, with all that went into each hash.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "popek/ports.h"

#define GUEST_MEM   (4ULL << 20)
#define GUEST_CPU   "EPYC,+svm,+npt,+umip" /* of the bare machine and, in tests.list, of L1 */
#define CANARY_SIZE (256UL << 10)
#define CANARY	    0x5afe5afe5afe5afeULL
#define MAX_LINES   16384
#define MAX_FORMS   256
#define MAX_MODES   16
#define NAME_LEN    24

/* The head of the image (popek/guest.S). */
struct image {
	u32 magic, flags, checksum, header, load, load_end, bss_end, entry;
	u32 runs, verbose;
};

struct result {
	char mode[12];
	char cpl, iopl;
	char cr4[6];
	char form[NAME_LEN];
	u64 hash;
	u64 hash_norf; /* of #UD: the flags that it pushed without RF */
	u8 vector;
	bool may_exit, unstable;
	u32 exits; /* a run; the few of the host's interrupts make none */
};

/* What one run of the guest has printed. */
struct results {
	size_t count;
	bool ended;
	struct result line[MAX_LINES];
	/* Of the parser. */
	struct result context;
	char text[256];
	size_t len;
};

/* One of each hypervisor; shared by the processes that the tests run in. */
static struct results *bare, *ours, *theirs;
static char program_dir[512];

/*
 * Where a hypervisor in QEMU's nested SVM differs from bare QEMU, and neither is to blame for it
 * (Documentation/errata.rst).  NULL is any.
 */
struct exemption {
	const char *form, *mode;
	bool svm, kvm;
	bool rf; /* but for RF in the flags that #UD has pushed, the same */
	const char *reason;
	u32 used;
};

static struct exemption exemptions[] = {
	{ NULL, NULL, true, true, true,
	  "faults that are injected push RF, as processors do; QEMU's own do not", 0 },
};

static char *path_of(const char *file)
{
	static char path[sizeof(program_dir) + 32];

	snprintf(path, sizeof(path), "%s/%s", program_dir, file);
	return path;
}

static void *load_image(size_t *size)
{
	static char image[1 << 20];
	int fd = open(path_of("popek.img"), O_RDONLY | O_CLOEXEC);
	struct image *head = (struct image *)image;
	ssize_t n;

	CHECKF(fd >= 0, "%s: errno %d", path_of("popek.img"), errno);
	n = read(fd, image, sizeof(image));
	CHECKF(n > (ssize_t)sizeof(*head) && n < (ssize_t)sizeof(image), "%zd", n);
	close(fd);
	CHECK_EQ(head->magic, 0x1badb002);
	head->verbose = !!getenv("POPEK_DUMP");
	*size = n;
	return image;
}

static u32 image_sum(void)
{
	size_t size, i;
	u8 *image = load_image(&size);
	u32 sum = 0;

	((struct image *)image)->verbose = 0;
	for (i = 0; i < size; i++)
		sum = (sum ^ image[i]) * 0x01000193;
	return sum;
}

/* --- what the guest prints --- */

static void parse_line(struct results *r)
{
	struct result *l = &r->line[r->count];
	char flags[3][32] = { "", "", "" };
	unsigned long long hash;
	unsigned int vector;
	int i;

	if (r->text[0] == ' ' || r->text[0] == '#')
		return;
	if (!strcmp(r->text, "end")) {
		r->ended = true;
		return;
	}
	if (r->text[0] == '@') {
		CHECKF(sscanf(r->text, "@%11s %c %c %5s", r->context.mode, &r->context.cpl,
			      &r->context.iopl, r->context.cr4) == 4,
		       "'%s'", r->text);
		return;
	}
	CHECK(r->count < MAX_LINES);
	*l = r->context;
	CHECKF(sscanf(r->text, "%23s %llx %x %31s %31s %31s", l->form, &hash, &vector, flags[0],
		      flags[1], flags[2]) >= 3,
	       "'%s'", r->text);
	l->hash = hash;
	l->vector = vector;
	for (i = 0; i < 3; i++) {
		if (!strncmp(flags[i], "norf=", 5))
			l->hash_norf = strtoull(flags[i] + 5, NULL, 16);
		l->may_exit |= !strcmp(flags[i], "exits");
		l->unstable |= !strcmp(flags[i], "unstable");
	}
	r->count++;
}

static void parse(struct results *r, char c)
{
	if (c != '\n') {
		if (r->len < sizeof(r->text) - 1)
			r->text[r->len++] = c;
		return;
	}
	r->text[r->len] = 0;
	r->len = 0;
	parse_line(r);
}

static void reset(struct results *r)
{
	memset(r, 0, sizeof(*r));
}

/* --- bare QEMU --- */

/* "# image SUM on QEMU as CPU": what the hashes of the file belong to. */
static void reference_head(char *head, size_t size)
{
	snprintf(head, size, "# image %08x as %s", image_sum(), GUEST_CPU);
}

static void test_bare(void)
{
	static char out[65536], head[128], chardev[700], img[600], target[600], bare_path[600];
	const char *qemu = getenv("SVM_QEMU"), *dump = getenv("POPEK_DUMP");
	char *argv[] = {
		(char *)(qemu ? qemu : "qemu-system-x86_64"),
		"-machine",
		"pc",
		"-accel",
		"tcg",
		"-cpu",
		GUEST_CPU,
		"-m",
		"16",
		"-nodefaults",
		"-no-user-config",
		"-display",
		"none",
		"-no-reboot",
		"-kernel",
		img,
		"-chardev",
		chardev,
		"-device",
		"isa-debugcon,iobase=0xe9,chardev=text",
		"-device",
		"isa-debug-exit,iobase=0xf4",
		NULL,
	};
	size_t size;
	char *image;
	FILE *f;
	int c;

	snprintf(target, sizeof(target), "%s", path_of("popek.bare"));
	unlink(target);
	snprintf(bare_path, sizeof(bare_path), "%s", path_of("popek.bare.new"));
	snprintf(chardev, sizeof(chardev), "file,id=text,path=%s,append=on", bare_path);
	snprintf(img, sizeof(img), "%s", path_of("popek.bare.img"));
	image = load_image(&size);
	f = fopen(img, "we");
	CHECK(f && fwrite(image, size, 1, f) == 1 && !fclose(f));
	reference_head(head, sizeof(head));
	f = fopen(bare_path, "we");
	CHECKF(f, "%s: errno %d", bare_path, errno);
	fprintf(f, "%s\n", head);
	CHECK(!fclose(f));

	/* The status is isa-debug-exit's: the guest's byte twice, and one. */
	c = spawn(argv, NULL, out, sizeof(out), 100);
	CHECKF(WIFEXITED(c) && WEXITSTATUS(c) == 1, "QEMU's status %#x: %.300s", c, out);
	unlink(img);
	reset(bare);
	f = fopen(bare_path, "re");
	CHECK(f);
	while ((c = getc(f)) != EOF)
		parse(bare, c);
	fclose(f);
	CHECKF(bare->ended, "the guest printed %zu lines and no end", bare->count);
	CHECK(!rename(bare_path, target));
	if (dump)
		ktap_diag("what went into the hashes is in %s", target);
	ktap_diag("bare QEMU: %zu hashes", bare->count);
}

static void read_reference(void)
{
	char head[128], line[256] = "";
	FILE *f;
	int c;

	if (bare->ended)
		return;
	f = fopen(path_of("popek.bare"), "re");
	CHECKF(f, "no %s: run 'popek bare' on the build host", path_of("popek.bare"));
	reference_head(head, sizeof(head));
	CHECK(fgets(line, sizeof(line), f));
	line[strcspn(line, "\n")] = 0;
	CHECKF(!strcmp(line, head), "reference is '%s', this is '%s'", line, head);
	reset(bare);
	while ((c = getc(f)) != EOF)
		parse(bare, c);
	fclose(f);
	CHECK(bare->ended);
}

/* --- modules --- */

static bool loaded(const char *module)
{
	return module_refs(module) >= 0;
}

static void wait_device(const char *dev)
{
	for (int i = 0; i < 100 && access(dev, F_OK); i++)
		sleep_ms(20);
	setenv("SVM_DEV", dev, 1);
}

static void use_svm(void)
{
	const char *ko = getenv("SVM_KO");

	if (loaded("kvm_amd"))
		CHECK(!system("rmmod kvm_amd kvm"));
	if (!loaded("svm")) {
		if (!ko || access(ko, R_OK))
			ktap_skip("SVM_KO does not name the module");
		CHECK_EQ(module_load(ko, ""), 0);
	}
	wait_device("/dev/svm");
}

static void use_kvm(void)
{
	if (loaded("svm")) {
		settle_refs("svm", 0, 3000);
		CHECK_EQ(module_unload("svm"), 0);
	}
	if (system("modprobe -q kvm_amd"))
		ktap_skip("no kvm_amd in this kernel");
	wait_device("/dev/kvm");
}

/* Leave the machine as it was found, with no module. */
static void unload_all(void)
{
	if (loaded("kvm_amd"))
		CHECK(!system("rmmod kvm_amd kvm"));
	if (loaded("svm") && getenv("SVM_KO")) {
		settle_refs("svm", 0, 3000);
		CHECK_EQ(module_unload("svm"), 0);
	}
}

/* --- a VM between canaries --- */

static u64 *canaries[2];

static struct vm *create_vm(u64 size)
{
	char *mem = map_anon(size + 2 * HOST_HUGE);
	struct vm *vm = vm_create();
	size_t i, j;

	mem += HOST_HUGE;
	canaries[0] = (u64 *)(mem - CANARY_SIZE);
	canaries[1] = (u64 *)(mem + size);
	for (i = 0; i < 2; i++)
		for (j = 0; j < CANARY_SIZE / 8; j++)
			canaries[i][j] = CANARY + j;
	vm_set_slot(vm, 0, 0, mem, size, 0);
	return vm;
}

static void check_canaries(void)
{
	size_t i, j;

	for (i = 0; i < 2; i++)
		for (j = 0; j < CANARY_SIZE / 8; j++)
			CHECKF(canaries[i][j] == CANARY + j, "%zu bytes %s the guest's memory",
			       i ? j * 8 : CANARY_SIZE - j * 8, i ? "behind" : "before");
}

/* --- exits of a vCPU --- */

struct exit_counter {
	int fd;
	off_t offset;
};

static struct exit_counter counter_open(struct vcpu *vcpu)
{
	struct exit_counter c = { .fd = ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL) };
	char buf[sizeof(struct kvm_stats_desc) + 256];
	struct kvm_stats_desc *d = (void *)buf;
	struct kvm_stats_header h;
	size_t stride;
	u32 i;

	CHECK_OK(c.fd);
	CHECK(pread(c.fd, &h, sizeof(h), 0) == sizeof(h));
	stride = sizeof(*d) + h.name_size;
	CHECK(stride <= sizeof(buf));
	for (i = 0; i < h.num_desc; i++) {
		CHECK(pread(c.fd, buf, stride, h.desc_offset + i * stride) == (ssize_t)stride);
		if (!strcmp(d->name, "exits")) {
			c.offset = h.data_offset + d->offset;
			return c;
		}
	}
	ktap_fail(__FILE__, __LINE__, "no statistic of exits");
}

static u64 counter_read(struct exit_counter c)
{
	u64 val;

	CHECK(pread(c.fd, &val, sizeof(val), c.offset) == sizeof(val));
	return val;
}

/* --- the guest in a VM --- */

struct machine {
	struct results *r;
	struct vcpu *vcpu;
	struct exit_counter counter;
	struct kvm_coalesced_mmio_ring *text;
	u64 mark; /* exits when the guest began to run a form */
	u32 runs;
	FILE *dump;
};

static void take_text(struct machine *m, const char *text, u32 count)
{
	while (count--) {
		if (m->dump)
			fputc(*text, m->dump);
		parse(m->r, *text++);
	}
}

/* kvm_amd gives a string of characters one by one: have them gathered. */
static void gather_text(struct machine *m)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = PORT_TEXT, .size = 1, .pio = 1 };
	struct vm *vm = m->vcpu->vm;
	int page = vm_has_cap(vm, KVM_CAP_COALESCED_MMIO);

	CHECK(page > 0 && vm_has_cap(vm, KVM_CAP_COALESCED_PIO));
	CHECK_OK(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	m->text = (void *)((char *)m->vcpu->run + page * HOST_PAGE);
}

static void take_gathered(struct machine *m)
{
	struct kvm_coalesced_mmio_ring *ring = m->text;
	u32 max = (HOST_PAGE - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]);

	while (ring->first != ring->last) {
		struct kvm_coalesced_mmio *write = &ring->coalesced_mmio[ring->first];

		CHECK(write->phys_addr == PORT_TEXT && write->len == 1);
		take_text(m, (char *)write->data, 1);
		ring->first = (ring->first + 1) % max;
	}
}

static bool take_io(struct machine *m)
{
	struct kvm_run *run = m->vcpu->run;

	if (run->io.direction != KVM_EXIT_IO_OUT || run->io.size != 1)
		return false;
	switch (run->io.port) {
	case PORT_MARK:
		m->mark = counter_read(m->counter);
		return true;
	case PORT_DONE:
		/* Of the exits between the two the last is this one. */
		m->r->context.exits = (counter_read(m->counter) - m->mark - 1) / m->runs;
		return true;
	case PORT_TEXT: /* there was no room */
		take_text(m, (char *)run + run->io.data_offset, run->io.count);
		return true;
	case PORT_END:
	case 0x21:
	case 0xa1:
		return true;
	}
	return false;
}

static void run_machine(struct machine *m)
{
	while (!m->r->ended) {
		int got = vcpu_run(m->vcpu);

		take_gathered(m);
		if (got == KVM_EXIT_IO && take_io(m))
			continue;
		if (got == -EINTR && !ktap_timed_out)
			continue;
		vcpu_dump(m->vcpu);
		ktap_fail(__FILE__, __LINE__, "after %zu lines (%s %s): exit %d (%s)", m->r->count,
			  m->r->context.mode, m->r->count ? m->r->line[m->r->count - 1].form : "",
			  got, vm_exit_name(got));
	}
}

static void run_guest(struct results *r, const char *name)
{
	const char *dump = getenv("POPEK_DUMP");
	struct machine m = { .r = r };
	struct image *head;
	struct vm *vm;
	char path[600];
	size_t size;

	reset(r);
	head = load_image(&size);
	vm = create_vm(GUEST_MEM);
	CHECK(head->load + size <= GUEST_MEM && head->bss_end <= GUEST_MEM);
	memcpy(vm_hva(vm, head->load), head, size);
	m.runs = head->runs;
	m.vcpu = vcpu_create(vm, 0);
	m.counter = counter_open(m.vcpu);
	gather_text(&m);
	if (dump) {
		snprintf(path, sizeof(path), "%s/popek.%s", dump, name);
		m.dump = fopen(path, "we");
		CHECKF(m.dump, "%s: errno %d", path, errno);
	}
	/* As a multiboot loader leaves it. */
	vcpu_set_mode(m.vcpu, MODE_PM32, 0, head->entry);
	run_machine(&m);
	if (m.dump)
		fclose(m.dump);
	check_canaries();
	close(m.counter.fd);
	vm_destroy(vm);
}

/* --- the verdict --- */

static bool same_case(const struct result *a, const struct result *b)
{
	return !strcmp(a->form, b->form) && !strcmp(a->mode, b->mode) && a->cpl == b->cpl &&
	       a->iopl == b->iopl && !strcmp(a->cr4, b->cr4);
}

static struct exemption *exempt(const struct result *a, const struct result *b, bool kvm)
{
	size_t i;

	if (!same_case(a, b) || a->unstable || b->unstable)
		return NULL;
	for (i = 0; i < ARRAY_LEN(exemptions); i++) {
		struct exemption *e = &exemptions[i];

		if (!(kvm ? e->kvm : e->svm) || (e->form && strcmp(e->form, b->form)) ||
		    (e->mode && strcmp(e->mode, b->mode)))
			continue;
		if (!e->rf || (a->vector == 6 && b->vector == 6 && a->hash_norf == b->hash_norf))
			return e;
	}
	return NULL;
}

static bool differs(const struct result *a, const struct result *b)
{
	return !same_case(a, b) || a->hash != b->hash || a->vector != b->vector || a->unstable ||
	       b->unstable;
}

static size_t count_names(const struct results *r, size_t offset)
{
	const char *seen[MAX_FORMS];
	size_t n = 0, i, j;

	for (i = 0; i < r->count; i++) {
		const char *name = (const char *)&r->line[i] + offset;

		for (j = 0; j < n && strcmp(seen[j], name); j++)
			;
		if (j == n && n < MAX_FORMS)
			seen[n++] = name;
	}
	return n;
}

static void compare(const struct results *r, const char *name, bool kvm)
{
	size_t i, differ = 0, exempted = 0;

	CHECKF(r->count == bare->count, "%zu lines, %zu on bare QEMU", r->count, bare->count);
	CHECK(r->count > 1000);
	for (i = 0; i < r->count; i++) {
		const struct result *a = &r->line[i], *b = &bare->line[i];
		struct exemption *e;

		if (!differs(a, b))
			continue;
		e = exempt(a, b, kvm);
		if (e) {
			exempted++;
			e->used++;
			continue;
		}
		if (differ++ < 40)
			ktap_diag(
				"DIFF %s CPL %c IOPL %c %s %s: %016llx vector %02x%s, bare %016llx "
				"vector %02x%s",
				b->mode, b->cpl, b->iopl, b->cr4, b->form,
				(unsigned long long)a->hash, a->vector,
				a->unstable ? " unstable" : "", (unsigned long long)b->hash,
				b->vector, b->unstable ? " unstable" : "");
	}
	ktap_diag(
		"%s: %zu forms, %zu modes, %zu hashes: %zu as on bare QEMU, %zu exempt, %zu differ",
		name, count_names(r, offsetof(struct result, form)),
		count_names(r, offsetof(struct result, mode)), r->count,
		r->count - differ - exempted, exempted, differ);
	for (i = 0; i < ARRAY_LEN(exemptions); i++)
		if (exemptions[i].used)
			ktap_diag("exempt: %u of %s in %s: %s", exemptions[i].used,
				  exemptions[i].form ?: "any form",
				  exemptions[i].mode ?: "any mode", exemptions[i].reason);
	CHECK_EQ(differ, 0);
}

/* What is exempt is the emulator's, so it is the same in any hypervisor. */
static void compare_exempt(void)
{
	size_t i;

	for (i = 0; i < bare->count && i < ours->count && i < theirs->count; i++)
		CHECKF(!differs(&ours->line[i], &bare->line[i]) ||
			       !differs(&ours->line[i], &theirs->line[i]),
		       "%s CPL %c %s differs from bare QEMU, and from kvm_amd", ours->line[i].mode,
		       ours->line[i].cpl, ours->line[i].form);
}

static void test_svm(void)
{
	read_reference();
	use_svm();
	run_guest(ours, "svm");
	compare(ours, "svm", false);
	unload_all();
}

static void test_kvm_amd(void)
{
	read_reference();
	use_kvm();
	run_guest(theirs, "kvm_amd");
	compare(theirs, "kvm_amd", true);
	if (ours->ended)
		compare_exempt();
	unload_all();
}

/*
 * A run of a form exits where it ends in #UD, which is intercepted so that a guest has SVM's
 * instructions refused and VMCALL emulated, and not otherwise.
 */
static u32 exits_due(const struct result *l)
{
	return l->vector == 6;
}

static void test_efficiency(void)
{
	size_t i, bad = 0, none = 0, ud = 0, counted = 0;

	if (!ours->ended) {
		use_svm();
		run_guest(ours, "svm");
		unload_all();
	}
	for (i = 0; i < ours->count; i++) {
		const struct result *l = &ours->line[i];

		if (l->may_exit)
			continue;
		counted++;
		if (l->exits == exits_due(l)) {
			none += !l->exits;
			ud += !!l->exits;
			continue;
		}
		if (bad++ < 20)
			ktap_diag("%s CPL %c IOPL %c %s %s: %u exits a run, vector %02x", l->mode,
				  l->cpl, l->iopl, l->cr4, l->form, l->exits, l->vector);
	}
	ktap_diag("efficiency: %zu of %zu without an exit, %zu that end in #UD with one, %zu "
		  "otherwise",
		  none, counted, ud, bad);
	CHECK(none);
	CHECK_EQ(bad, 0);
}

/* --- resource control --- */

/* The same bytes in every mode: CLI; JMP to itself. */
PAYLOAD(spin, "cli\n"
	      "1: jmp 1b\n");

#define TICKS	20
#define TICK_MS 4

struct ticker {
	pthread_t spinning;
	volatile u32 ticks, control;
	volatile bool done;
};

static void on_kick(int sig)
{
	(void)sig;
}

/* On the guest's own CPU: it has to be taken from the guest each time. */
static void *tick(void *arg)
{
	struct ticker *t = arg;

	bind_cpu(0);
	while (t->ticks < TICKS) {
		sleep_ms(TICK_MS);
		t->ticks++;
	}
	t->done = true;
	pthread_kill(t->spinning, SIGUSR1);
	return NULL;
}

/* On a CPU without a guest: a busy machine slows both. */
static void *tick_control(void *arg)
{
	struct ticker *t = arg;

	bind_cpu(1);
	while (!t->done) {
		sleep_ms(TICK_MS);
		t->control++;
	}
	return NULL;
}

static void spin_in(enum vm_mode mode, int cpl)
{
	struct ticker t = { .spinning = pthread_self() };
	struct vm *vm = create_vm(GUEST_MEM);
	struct vcpu *vcpu = vcpu_create(vm, 0);
	struct kvm_regs regs;
	pthread_t thread, control;
	u64 begin, took;
	int got;

	vm_write_tables(vm);
	vm_load_payload(vm, VM_CODE_GPA, spin);
	vcpu_set_mode(vcpu, mode, cpl, VM_CODE_GPA);
	vcpu_get_regs(vcpu, &regs);
	regs.rflags |= 0x200;
	vcpu_set_regs(vcpu, &regs);
	begin = now_ms();
	CHECK(!pthread_create(&control, NULL, tick_control, &t));
	CHECK(!pthread_create(&thread, NULL, tick, &t));
	got = vcpu_run(vcpu);
	took = now_ms() - begin;
	if (got != -EINTR)
		vcpu_dump(vcpu);
	CHECKF(got == -EINTR, "%s: exit %d (%s)", vm_mode_name[mode], got, vm_exit_name(got));
	pthread_join(thread, NULL);
	pthread_join(control, NULL);
	vcpu_get_regs(vcpu, &regs);
	CHECKF(!(regs.rflags & 0x200), "%s: the guest has not come to spin", vm_mode_name[mode]);
	if (getenv("POPEK_VERBOSE"))
		ktap_diag("%s CPL %d: %u ticks in %llu ms, %u on the other CPU", vm_mode_name[mode],
			  cpl, t.ticks, (unsigned long long)took, t.control);
	CHECKF(t.control < 5 * TICKS, "%s: %u ticks in %llu ms, %u on the other CPU",
	       vm_mode_name[mode], t.ticks, (unsigned long long)took, t.control);
	check_canaries();
	vm_destroy(vm);
}

static void test_resources(void)
{
	struct sigaction sa = { .sa_handler = on_kick };
	int mode;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		ktap_skip("one CPU only");
	use_svm();
	bind_cpu(0);
	sigaction(SIGUSR1, &sa, NULL);
	for (mode = MODE_REAL; mode <= MODE_COMPAT; mode++) {
		if (mode != MODE_V86)
			spin_in(mode, 0);
		if (mode != MODE_REAL)
			spin_in(mode, 3);
	}
	unload_all();
}

/* --- the table --- */

static int index_of(char names[][NAME_LEN], int *n, int max, const char *name)
{
	int i;

	for (i = 0; i < *n; i++)
		if (!strcmp(names[i], name))
			return i;
	if (*n == max)
		return max - 1;
	snprintf(names[*n], NAME_LEN, "%s", name);
	return (*n)++;
}

static char verdict(const struct results *r, size_t i, bool kvm)
{
	if (!r->ended || i >= r->count)
		return ' ';
	if (!differs(&r->line[i], &bare->line[i]))
		return '=';
	return exempt(&r->line[i], &bare->line[i], kvm) ? 'x' : 'D';
}

/* Two letters and a number for all CPLs, IOPLs and bits of CR4 of a form in a mode. */
struct cell {
	bool used;
	char svm, kvm;
	u32 exits;
};

static char worse(char a, char b)
{
	return a == 'D' || b == 'D' ? 'D' : a == 'x' || b == 'x' ? 'x' : b;
}

static void print_table(void)
{
	static char forms[MAX_FORMS][NAME_LEN], mode_names[MAX_MODES][NAME_LEN];
	static struct cell cells[MAX_FORMS][MAX_MODES];
	int nforms = 0, nmodes = 0, f, m;
	char row[256];
	size_t i;

	for (i = 0; i < bare->count; i++) {
		const struct result *l = &bare->line[i];
		struct cell *c = &cells[index_of(forms, &nforms, MAX_FORMS, l->form)]
				       [index_of(mode_names, &nmodes, MAX_MODES, l->mode)];

		c->used = true;
		c->svm = worse(c->svm, verdict(ours, i, false));
		c->kvm = worse(c->kvm, verdict(theirs, i, true));
		if (i < ours->count && ours->line[i].exits > c->exits)
			c->exits = ours->line[i].exits;
	}
	ktap_diag(
		"svm, kvm_amd: = as on bare QEMU, D differs, x exempt; most exits of a run on svm");
	f = snprintf(row, sizeof(row), "%-22s", "");
	for (m = 0; m < nmodes; m++)
		f += snprintf(row + f, sizeof(row) - f, " %-8s", mode_names[m]);
	ktap_diag("%s", row);
	for (f = 0; f < nforms; f++) {
		int n = snprintf(row, sizeof(row), "%-22s", forms[f]);

		for (m = 0; m < nmodes; m++) {
			struct cell *c = &cells[f][m];

			if (c->used)
				n += snprintf(row + n, sizeof(row) - n, " %c%c %-5u", c->svm,
					      c->kvm, c->exits);
			else
				n += snprintf(row + n, sizeof(row) - n, " %-8s", "-");
		}
		ktap_diag("%s", row);
	}
}

static const struct ktap_test tests[] = {
	{ "bare", test_bare, 120 },	     { "svm", test_svm, 120 },
	{ "kvm_amd", test_kvm_amd, 180 },    { "efficiency", test_efficiency, 120 },
	{ "resources", test_resources, 60 },
};

static struct results *shared_results(void)
{
	void *p = mmap(NULL, sizeof(struct results), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int main(int argc, char **argv)
{
	ssize_t n = readlink("/proc/self/exe", program_dir, sizeof(program_dir) - 1);
	int status;

	if (n <= 0)
		return 1;
	program_dir[n] = 0;
	*strrchr(program_dir, '/') = 0;
	bare = shared_results();
	ours = shared_results();
	theirs = shared_results();
	if (!bare || !ours || !theirs)
		return 1;
	status = ktap_run(tests, ARRAY_LEN(tests), argc, argv);
	if (bare->ended && (ours->ended || theirs->ended) && (status || getenv("POPEK_VERBOSE")))
		print_table();
	return status;
}
