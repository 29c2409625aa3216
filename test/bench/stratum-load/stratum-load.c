/*
 * stratum-load - a load generator for stratum v1 mining servers.
 *
 * One thread, epoll, no dependencies but libcrypto (for SHA-256).
 *
 *   connect  open N connections, subscribe and authorise each; report the time
 *            until all are ready and the server's memory per connection.
 *   shares   keep a window of outstanding submits per connection; every share
 *            is checked against the share target here first, so that a correct
 *            server accepts it. Reports accepted and rejected shares per
 *            second, latency, and the server's CPU seconds per 100k shares.
 *   notify   hold N connections, run a command that makes a new block and
 *            report when each connection got mining.notify with clean_jobs.
 *
 * Build: make        Help: ./stratum-load --help
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <openssl/sha.h>

/* ------------------------------------------------------------- options -- */

enum mode { M_CONNECT, M_SHARES, M_NOTIFY };
enum bad_kind { BAD_TARGET, BAD_DUP, BAD_JOB, BAD_NTIME, BAD_NONCE2, BAD_WORKER };
static const char *const mode_names[] = { "connect", "shares", "notify", NULL };
static const char *const bad_names[] = { "target", "dup", "job", "ntime", "nonce2", "worker", NULL };

static struct {
	const char *host, *port, *user, *pass, *agent, *trigger, *label;
	enum mode mode;
	int conns, workers, window, ramp, src_ips, rounds, invalid_kind;
	double duration, warmup, hold, linger, rate, invalid, setup_timeout;
	long pids[64];                  /* the server's processes */
	int pid_count;
	bool json, quiet;
} opt = {
	.host = "127.0.0.1", .port = "3333", .user = "bench.w%d", .pass = "x",
	.agent = "stratum-load/1.0", .label = "", .mode = M_SHARES, .conns = 1,
	.workers = 0, .window = 16, .ramp = 256, .src_ips = 1, .rounds = 5,
	.duration = 10, .warmup = 2, .hold = 3, .setup_timeout = 120,
};

static void usage(FILE *f)
{
	fprintf(f,
"usage: stratum-load [options]\n"
"  --mode connect|shares|notify   what to measure (default shares)\n"
"  --host H --port P              server (default 127.0.0.1 3333)\n"
"  --connections N                connections to hold (default 1)\n"
"  --user FMT                     user name, %%d is the worker number (default bench.w%%d)\n"
"  --workers K                    distinct worker numbers (default: one per connection)\n"
"  --pass S --agent S             password and subscribe agent\n"
"  --duration S --warmup S        measured and unmeasured seconds (default 10, 2)\n"
"  --window W                     outstanding submits per connection (default 16)\n"
"  --rate R                       shares: total submits per second, open loop (default: as fast as answered)\n"
"  --invalid F                    shares: fraction 0..1 of submits made invalid (default 0)\n"
"  --invalid-kind K               target|dup|job|ntime|nonce2|worker (default target)\n"
"  --trigger CMD                  notify: shell command that makes a new block, or http://HOST:PORT/PATH to get\n"
"  --rounds R                     notify: how many times (default 5)\n"
"  --hold S                       connect: seconds to hold at the end; notify: pause between rounds (default 3)\n"
"  --linger S                     shares: seconds to keep the connections at the end, idle (default 0)\n"
"  --ramp N                       connections in set-up at one time (default 256)\n"
"  --src-ips K                    spread over 127.0.0.1 .. 127.0.0.K (default 1)\n"
"  --setup-timeout S              give up when not all are ready by then (default 120)\n"
"  --pid PID[,PID...]             server processes: report their CPU time and memory, added up\n"
"  --label S                      copied into the JSON result\n"
"  --json                         print one JSON object instead of text\n");
}

/* -------------------------------------------------------------- helpers -- */

static void die(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "stratum-load: ");
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(2);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *xalloc(void *p, size_t n)
{
	p = realloc(p, n);
	if (!p)
		die("out of memory");
	return p;
}

static const char hexdig[] = "0123456789abcdef";

static int unhex(int c)
{
	if (c >= '0' && c <= '9') return c - '0';
	if (c >= 'a' && c <= 'f') return c - 'a' + 10;
	if (c >= 'A' && c <= 'F') return c - 'A' + 10;
	return -1;
}

/* n bytes out of 2n hex digits; false when a digit is bad */
static bool hex2bin(uint8_t *out, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int a = unhex(s[2 * i]), b = unhex(s[2 * i + 1]);
		if (a < 0 || b < 0)
			return false;
		out[i] = a << 4 | b;
	}
	return true;
}

static char *put_hex32(char *p, uint32_t v)
{
	for (int i = 28; i >= 0; i -= 4)
		*p++ = hexdig[v >> i & 15];
	return p;
}

static char *put_uint(char *p, uint64_t v)
{
	char t[24];
	int n = 0;
	do t[n++] = '0' + v % 10; while (v /= 10);
	while (n) *p++ = t[--n];
	return p;
}

static char *put_str(char *p, const char *s)
{
	size_t n = strlen(s);
	memcpy(p, s, n);
	return p + n;
}

static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
static void wbe32(uint8_t *p, uint32_t v) { p[0] = v >> 24; p[1] = v >> 16; p[2] = v >> 8; p[3] = v; }
static void wle32(uint8_t *p, uint32_t v) { p[3] = v >> 24; p[2] = v >> 16; p[1] = v >> 8; p[0] = v; }
static uint64_t le64(const uint8_t *p)
{
	uint64_t v = 0;
	for (int i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

/* ------------------------------------------------------ latency numbers -- */

/* Log-linear histogram of microseconds: 32 steps per power of two (3 %). */
#define HSUB 32
static struct hist { uint64_t n[64 * HSUB], total; double sum, max; } lat;

static void hist_add(struct hist *h, double sec)
{
	double us = sec * 1e6;
	uint64_t v = us < 0 ? 0 : (uint64_t)us;
	int i;
	if (v < HSUB)
		i = v;
	else {
		int e = 63 - __builtin_clzll(v) - 5;
		i = (e + 1) * HSUB + (int)(v >> e) - HSUB;
	}
	h->n[i]++;
	h->total++;
	h->sum += us;
	if (us > h->max)
		h->max = us;
}

static double hist_pct(const struct hist *h, double p)
{
	uint64_t want = ceil(h->total * p), seen = 0;
	for (int i = 0; i < 64 * HSUB; i++)
		if ((seen += h->n[i]) >= want && h->n[i])
			return i < HSUB ? i : (double)((uint64_t)(HSUB + i % HSUB) << (i / HSUB - 1));
	return 0;
}

static int cmp_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double pct(const double *sorted, int n, double p)
{
	int i = ceil(n * p) - 1;
	return n ? sorted[i < 0 ? 0 : i] : 0;
}

/* --------------------------------------------- server process, from /proc */

struct usage { double cpu, rss_kb; };

static void add_usage(struct usage *u, long pid)
{
	char path[64], buf[4096], *p;
	FILE *f;
	unsigned long ut, st;
	double kb;

	snprintf(path, sizeof path, "/proc/%ld/stat", pid);
	if (!(f = fopen(path, "r")))
		die("no process %ld", pid);
	if (fgets(buf, sizeof buf, f) && (p = strrchr(buf, ')')) &&
	    sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &ut, &st) == 2)
		u->cpu += (double)(ut + st) / sysconf(_SC_CLK_TCK);
	fclose(f);
	snprintf(path, sizeof path, "/proc/%ld/status", pid);
	if ((f = fopen(path, "r"))) {
		while (fgets(buf, sizeof buf, f))
			if (sscanf(buf, "VmRSS: %lf", &kb) == 1) {
				u->rss_kb += kb;
				break;
			}
		fclose(f);
	}
}

static struct usage server_usage(void)
{
	struct usage u = { 0, 0 };
	for (int i = 0; i < opt.pid_count; i++)
		add_usage(&u, opt.pids[i]);
	return u;
}

static void take_pids(const char *s)
{
	char *end;
	for (opt.pid_count = 0; opt.pid_count < 64; s = end + 1) {
		opt.pids[opt.pid_count++] = strtol(s, &end, 10);
		if (*end != ',')
			break;
	}
	if (*end || opt.pids[0] <= 0)
		die("--pid wants process ids");
}

static double own_cpu(void)
{
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

/* ------------------------------------------------------------------ jobs -- */

/* Servers send the same notify line to every connection, so parsed lines are
 * shared. The key is the whole line: a server may send one job id with
 * different coinbases to different connections. */
struct job {
	struct job *next;
	uint64_t hash;
	int refs;
	char *id;
	uint8_t *cb1, *cb2, (*branch)[32];
	size_t cb1len, cb2len;
	int branches;
	uint8_t prev[32];
	uint32_t version, nbits, ntime;
	char ntime_hex[9];
	bool clean;
};
static struct job *jobs;

static void job_unref(struct job *j)
{
	if (!j || --j->refs)
		return;
	for (struct job **p = &jobs; *p; p = &(*p)->next)
		if (*p == j) {
			*p = j->next;
			break;
		}
	free(j->id); free(j->cb1); free(j->cb2); free(j->branch); free(j);
}

/* ----------------------------------------------------------- connections -- */

enum state { S_IDLE, S_CONNECTING, S_SUBSCRIBE, S_AUTHORISE, S_READY, S_DEAD };

struct slot { uint64_t id; double t; unsigned work; bool busy, bad, measured; };

struct conn {
	int fd, index;
	enum state state;
	bool want_out, has_diff, authorised;
	double t_start, t_ready, t_notify;
	/* input and output buffers */
	char *rx, *tx;
	size_t rxlen, rxcap, txlen, txoff, txcap;
	/* session */
	char user[128];
	uint8_t enonce1[32];
	int en1len, en2len;
	double diff, job_diff;          /* announced; in force for the job */
	struct job *job;
	/* work: header tail and midstate for the present job */
	bool work_ok;
	unsigned work;                  /* counts the clean jobs received */
	unsigned untold_stale;          /* stale refusals of the present job, no newer one told yet */
	uint32_t mid[8], nonce;
	uint64_t enonce2;
	uint8_t tail[64];
	uint32_t last_nonce;            /* last accepted kind of share, for duplicates */
	bool has_last;
	/* outstanding submits */
	struct slot *slots;
	uint64_t next_id;
	int outstanding;
};

static struct conn *conns;
static int epfd, ready_count, dead_count, in_setup, next_start, slot_count;
static double bad_acc;
static bool measuring, submitting;

static struct {
	uint64_t sent, accepted, rejected, bad_sent, bad_rejected, bad_accepted;
	uint64_t hashes, bytes_in, bytes_out, notifies, setdiffs, disconnects, unanswered, wrong;
} st;

/* reject reasons, by text */
static struct { char text[48]; uint64_t n; } reasons[24];

static void count_reason(const char *s, size_t n)
{
	if (n > sizeof reasons[0].text - 1)
		n = sizeof reasons[0].text - 1;
	for (int i = 0; i < 24; i++) {
		if (!reasons[i].n) {
			memcpy(reasons[i].text, s, n);
			for (size_t k = 0; k < n; k++)
				if (reasons[i].text[k] == '"' || reasons[i].text[k] == '\\')
					reasons[i].text[k] = '\'';
		}
		if (!reasons[i].n || (strlen(reasons[i].text) == n)) {
			bool same = true;
			for (size_t k = 0; k < n && same; k++)
				same = reasons[i].text[k] == (s[k] == '"' || s[k] == '\\' ? '\'' : s[k]);
			if (same) {
				reasons[i].n++;
				return;
			}
		}
	}
}

static void conn_events(struct conn *c)
{
	struct epoll_event ev = { .events = EPOLLIN | (c->want_out ? EPOLLOUT : 0), .data.ptr = c };
	epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &ev);
}

static void conn_dead(struct conn *c)
{
	if (c->state == S_DEAD)
		return;
	if (c->state == S_READY)
		ready_count--;
	else if (c->state != S_IDLE)
		in_setup--;
	c->state = S_DEAD;
	dead_count++;
	st.disconnects++;
	st.unanswered += c->outstanding;
	close(c->fd);
	c->fd = -1;
}

static void conn_flush(struct conn *c)
{
	while (c->txoff < c->txlen) {
		ssize_t n = send(c->fd, c->tx + c->txoff, c->txlen - c->txoff, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN) {
				conn_dead(c);
				return;
			}
			if (!c->want_out) {
				c->want_out = true;
				conn_events(c);
			}
			return;
		}
		c->txoff += n;
		st.bytes_out += n;
	}
	c->txoff = c->txlen = 0;
	if (c->want_out) {
		c->want_out = false;
		conn_events(c);
	}
}

/* room for n more bytes of output; the caller writes there and adds to txlen */
static char *conn_room(struct conn *c, size_t n)
{
	if (c->txlen + n > c->txcap) {
		c->txcap = (c->txlen + n) * 2;
		c->tx = xalloc(c->tx, c->txcap);
	}
	return c->tx + c->txlen;
}

static void conn_say(struct conn *c, const char *fmt, ...)
{
	va_list ap;
	char *p = conn_room(c, 1024);
	va_start(ap, fmt);
	c->txlen += vsnprintf(p, 1024, fmt, ap);
	va_end(ap);
	conn_flush(c);
}

static void conn_start(struct conn *c)
{
	static struct addrinfo *dst;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	int one = 1, e;

	if (!dst) {
		struct addrinfo hint = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
		if ((e = getaddrinfo(opt.host, opt.port, &hint, &dst)))
			die("%s: %s", opt.host, gai_strerror(e));
	}
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket: %s", strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (opt.src_ips > 1) {
		struct sockaddr_in a = { .sin_family = AF_INET };
		a.sin_addr.s_addr = htonl(0x7f000001 + c->index % opt.src_ips);
		setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
		if (bind(c->fd, (struct sockaddr *)&a, sizeof a))
			die("bind: %s", strerror(errno));
	}
	c->t_start = now();
	c->state = S_CONNECTING;
	c->want_out = true;
	in_setup++;
	if (connect(c->fd, dst->ai_addr, dst->ai_addrlen) && errno != EINPROGRESS)
		die("connect: %s", strerror(errno));
	epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &ev);
}

/* ------------------------------------------------------------------ JSON -- */

/* Just enough JSON: step over one value, and find the members of an object. */
static const char *skip_ws(const char *p, const char *e)
{
	while (p < e && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')) p++;
	return p;
}

static const char *skip_value(const char *p, const char *e)
{
	int depth = 0;
	for (; p < e; p++) {
		if (*p == '"') {
			for (p++; p < e && *p != '"'; p++)
				if (*p == '\\') p++;
			if (p >= e)
				return e;
			if (!depth)
				return p + 1;
		} else if (*p == '[' || *p == '{')
			depth++;
		else if (*p == ']' || *p == '}') {
			if (depth <= 1)
				return depth ? p + 1 : p;
			depth--;
		} else if (!depth && (*p == ',' || *p == ' '))
			return p;
	}
	return e;
}

struct span { const char *p; size_t n; };
struct message { struct span id, result, error, method, params; };

static bool span_is(struct span s, const char *lit) { return s.n == strlen(lit) && !memcmp(s.p, lit, s.n); }

static bool parse_message(const char *p, size_t n, struct message *m)
{
	const char *e = p + n;
	memset(m, 0, sizeof *m);
	p = skip_ws(p, e);
	if (p == e || *p != '{')
		return false;
	for (p++; (p = skip_ws(p, e)) < e && *p != '}';) {
		const char *k = p, *v;
		struct span s;
		if (*p == ',') { p++; continue; }
		if (*p != '"')
			return false;
		p = skip_value(p, e);
		size_t klen = p - k;
		p = skip_ws(p, e);
		if (p == e || *p != ':')
			return false;
		v = p = skip_ws(p + 1, e);
		p = skip_value(p, e);
		s = (struct span){ v, p - v };
		if (klen == 4 && !memcmp(k, "\"id\"", 4)) m->id = s;
		else if (klen == 8 && !memcmp(k, "\"result\"", 8)) m->result = s;
		else if (klen == 7 && !memcmp(k, "\"error\"", 7)) m->error = s;
		else if (klen == 8 && !memcmp(k, "\"method\"", 8)) m->method = s;
		else if (klen == 8 && !memcmp(k, "\"params\"", 8)) m->params = s;
	}
	return true;
}

/* the items of an array, at most max; returns how many */
static int parse_array(struct span a, struct span *out, int max)
{
	const char *p = a.p, *e = a.p + a.n;
	int n = 0;
	if (!a.n || *p != '[')
		return 0;
	for (p++; (p = skip_ws(p, e)) < e && *p != ']' && n < max;) {
		const char *v = p;
		if (*p == ',') { p++; continue; }
		p = skip_value(p, e);
		out[n++] = (struct span){ v, p - v };
	}
	return n;
}

/* strip the quotes of a plain string */
static struct span unquote(struct span s)
{
	if (s.n >= 2 && s.p[0] == '"')
		return (struct span){ s.p + 1, s.n - 2 };
	return (struct span){ s.p, 0 };
}

/* ------------------------------------------------------------------ work -- */

static void sha256d(uint8_t *out, const uint8_t *in, size_t n)
{
	SHA256(in, n, out);
	SHA256(out, 32, out);
}

/* Share difficulty of a hash: (2^224 - 2^208) / hash, as pools compute it. */
static double hash_diff(const uint8_t *h)
{
	double v = ldexp((double)le64(h + 24), 192) + ldexp((double)le64(h + 16), 128) +
		   ldexp((double)le64(h + 8), 64) + (double)le64(h);
	return v ? ldexp(65535.0, 208) / v : 1e300;
}

/* coinbase, merkle root and midstate for (connection, job, enonce2) */
static void make_work(struct conn *c)
{
	struct job *j = c->job;
	static uint8_t *cb;
	static size_t cap;
	size_t n = j->cb1len + c->en1len + c->en2len + j->cb2len;
	uint8_t root[64], head[80], *p;
	SHA256_CTX ctx;

	if (n > cap)
		cb = xalloc(cb, cap = n * 2);
	p = cb;
	memcpy(p, j->cb1, j->cb1len); p += j->cb1len;
	memcpy(p, c->enonce1, c->en1len); p += c->en1len;
	for (int i = 0; i < c->en2len; i++)
		*p++ = i >= 8 ? 0 : c->enonce2 >> 8 * i;
	memcpy(p, j->cb2, j->cb2len);
	sha256d(root, cb, n);
	for (int i = 0; i < j->branches; i++) {
		memcpy(root + 32, j->branch[i], 32);
		sha256d(root, root, 64);
	}
	wle32(head, j->version);
	memcpy(head + 4, j->prev, 32);
	memcpy(head + 36, root, 32);
	wle32(head + 68, j->ntime);
	wle32(head + 72, j->nbits);
	SHA256_Init(&ctx);
	SHA256_Transform(&ctx, head);
	for (int i = 0; i < 8; i++)
		c->mid[i] = ctx.h[i];
	memset(c->tail, 0, 64);
	memcpy(c->tail, head + 64, 12);
	c->tail[16] = 0x80;
	c->tail[62] = 2;                /* 640 bits = 0x280 */
	c->tail[63] = 0x80;
	c->nonce = 0;
	c->work_ok = true;
	c->has_last = false;
}

static void header_hash(struct conn *c, uint32_t nonce, uint8_t *out)
{
	static const uint32_t iv[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
					0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	static uint8_t second[64] = { [32] = 0x80, [62] = 1 };   /* 256 bits */
	SHA256_CTX ctx;

	wle32(c->tail + 12, nonce);
	memcpy(ctx.h, c->mid, 32);
	SHA256_Transform(&ctx, c->tail);
	for (int i = 0; i < 8; i++)
		wbe32(second + 4 * i, ctx.h[i]);
	memcpy(ctx.h, iv, 32);
	SHA256_Transform(&ctx, second);
	for (int i = 0; i < 8; i++)
		wbe32(out + 4 * i, ctx.h[i]);
	st.hashes++;
}

/* next unused nonce that meets (or, for bad shares, misses) the target */
static bool find_nonce(struct conn *c, bool meet, uint32_t *nonce)
{
	uint8_t h[32];
	if (!meet && c->job_diff < 2.4e-10)
		return false;           /* nothing can miss so easy a target */
	for (;;) {
		uint32_t n = c->nonce++;
		if (c->nonce == 0) {    /* nonces used up: next enonce2 */
			c->enonce2++;
			make_work(c);
		}
		header_hash(c, n, h);
		if ((hash_diff(h) >= c->job_diff) == meet) {
			*nonce = n;
			return true;
		}
	}
}

/* --------------------------------------------------------------- submits -- */

static bool can_submit(const struct conn *c)
{
	return c->state == S_READY && c->job && c->outstanding < opt.window &&
	       !c->slots[c->next_id % slot_count].busy && !c->want_out;
}

/* append one submit to the output buffer (not flushed here) */
static void submit(struct conn *c, double t)
{
	bool bad = false;
	int kind = -1;
	uint32_t nonce;
	char en2[65];

	if (!c->work_ok)
		make_work(c);
	if (opt.invalid > 0 && (bad_acc += opt.invalid) >= 1) {
		bad_acc -= 1;
		bad = true;
		kind = opt.invalid_kind;
	}
	if (kind == BAD_DUP && !c->has_last)
		bad = false, kind = -1;
	if (kind == BAD_DUP)
		nonce = c->last_nonce;
	else if (!find_nonce(c, kind != BAD_TARGET, &nonce))
		die("every hash meets difficulty %g: cannot make above-target shares", c->job_diff);
	if (!bad) {
		c->last_nonce = nonce;
		c->has_last = true;
	}
	for (int i = 0; i < c->en2len; i++) {
		uint8_t b = i >= 8 ? 0 : c->enonce2 >> 8 * i;
		en2[2 * i] = hexdig[b >> 4];
		en2[2 * i + 1] = hexdig[b & 15];
	}
	en2[2 * c->en2len] = 0;
	if (kind == BAD_NONCE2)
		en2[0] = 'z';

	struct slot *s = &c->slots[c->next_id % slot_count];
	*s = (struct slot){ .id = c->next_id, .t = t, .work = c->work, .busy = true, .bad = bad, .measured = measuring };
	char *p0 = conn_room(c, 512 + strlen(c->user) + strlen(c->job->id)), *p = p0;
	p = put_str(p, "{\"id\":");
	p = put_uint(p, c->next_id++);
	p = put_str(p, ",\"method\":\"mining.submit\",\"params\":[\"");
	p = put_str(p, c->user);
	if (kind == BAD_WORKER) *p++ = '~';
	p = put_str(p, "\",\"");
	if (kind == BAD_JOB) *p++ = '7';
	p = put_str(p, c->job->id);
	p = put_str(p, "\",\"");
	p = put_str(p, en2);
	p = put_str(p, "\",\"");
	if (kind == BAD_NTIME) p = put_hex32(p, c->job->ntime - 10000);
	else p = put_str(p, c->job->ntime_hex);
	p = put_str(p, "\",\"");
	p = put_hex32(p, nonce);
	p = put_str(p, "\"]}\n");
	c->txlen += p - p0;
	c->outstanding++;
	if (measuring) {
		st.sent++;
		st.bad_sent += bad;
	}
}

static void fill_window(struct conn *c)
{
	if (!submitting || opt.rate > 0)
		return;
	double t = now();
	while (can_submit(c))
		submit(c, t);
	if (c->txlen)
		conn_flush(c);
}

/* -------------------------------------------------------------- messages -- */

static uint64_t fnv(const char *p, size_t n)
{
	uint64_t h = 14695981039346656037ull;
	for (size_t i = 0; i < n; i++)
		h = (h ^ (uint8_t)p[i]) * 1099511628211ull;
	return h ^ n;
}

static struct job *parse_job(struct span params)
{
	struct span a[10], b[64], s;
	uint8_t w[32];
	uint64_t h = fnv(params.p, params.n);
	struct job *j;

	for (j = jobs; j; j = j->next)
		if (j->hash == h)
			return j;
	if (parse_array(params, a, 10) < 9)
		return NULL;
	j = xalloc(NULL, sizeof *j);
	memset(j, 0, sizeof *j);
	j->hash = h;
	s = unquote(a[0]);
	j->id = strndup(s.p, s.n);
	s = unquote(a[1]);
	if (s.n != 64 || !hex2bin(w, s.p, 32))
		goto bad;
	for (int i = 0; i < 8; i++)
		wle32(j->prev + 4 * i, be32(w + 4 * i));
	s = unquote(a[2]);
	j->cb1 = xalloc(NULL, s.n / 2 + 1);
	j->cb1len = s.n / 2;
	if (!hex2bin(j->cb1, s.p, j->cb1len))
		goto bad;
	s = unquote(a[3]);
	j->cb2 = xalloc(NULL, s.n / 2 + 1);
	j->cb2len = s.n / 2;
	if (!hex2bin(j->cb2, s.p, j->cb2len))
		goto bad;
	j->branches = parse_array(a[4], b, 64);
	j->branch = xalloc(NULL, 32 * (j->branches + 1));
	for (int i = 0; i < j->branches; i++) {
		s = unquote(b[i]);
		if (s.n != 64 || !hex2bin(j->branch[i], s.p, 32))
			goto bad;
	}
	for (int i = 5; i < 8; i++) {
		s = unquote(a[i]);
		if (s.n != 8 || !hex2bin(w, s.p, 4))
			goto bad;
		if (i == 5) j->version = be32(w);
		if (i == 6) j->nbits = be32(w);
		if (i == 7) { j->ntime = be32(w); memcpy(j->ntime_hex, s.p, 8); }
	}
	j->clean = a[8].n == 4 && a[8].p[0] == 't';
	j->next = jobs;
	jobs = j;
	return j;
bad:
	free(j->id); free(j->cb1); free(j->cb2); free(j->branch); free(j);
	return NULL;
}

static void check_ready(struct conn *c, double t)
{
	if (c->state == S_AUTHORISE && c->authorised && c->job && c->has_diff) {
		c->state = S_READY;
		c->t_ready = t;
		in_setup--;
		ready_count++;
	}
}

static void on_method(struct conn *c, struct message *m, double t)
{
	if (span_is(m->method, "\"mining.notify\"")) {
		struct job *j = parse_job(m->params);
		st.notifies++;
		if (!j)
			return;
		j->refs++;
		job_unref(c->job);
		c->job = j;
		if (j->clean) {
			c->work++;
			c->untold_stale = 0;
		}
		c->job_diff = c->diff;
		c->work_ok = false;
		if (j->clean && !c->t_notify)
			c->t_notify = t;
		check_ready(c, t);
	} else if (span_is(m->method, "\"mining.set_difficulty\"")) {
		struct span a;
		if (parse_array(m->params, &a, 1) == 1) {
			c->diff = strtod(a.p, NULL);
			/* a harder target is safe at once, an easier one only
			 * from the next job on */
			if (!c->has_diff || c->diff > c->job_diff)
				c->job_diff = c->diff;
			c->has_diff = true;
			st.setdiffs++;
		}
		check_ready(c, t);
	} else if (span_is(m->method, "\"mining.set_extranonce\"")) {
		struct span a[2], s;
		if (parse_array(m->params, a, 2) == 2) {
			s = unquote(a[0]);
			if (s.n / 2 <= sizeof c->enonce1 && hex2bin(c->enonce1, s.p, s.n / 2)) {
				c->en1len = s.n / 2;
				c->en2len = atoi(a[1].p);
				c->work_ok = false;
			}
		}
	}
}

static void on_result(struct conn *c, struct message *m, double t)
{
	uint64_t id = m->id.n ? strtoull(m->id.p, NULL, 10) : 0;
	bool yes = span_is(m->result, "true");

	if (c->state == S_SUBSCRIBE && id == 1) {
		struct span a[3], s;
		if (parse_array(m->result, a, 3) < 3)
			die("subscribe refused: %.*s", (int)m->error.n, m->error.p);
		s = unquote(a[1]);
		if (s.n / 2 > sizeof c->enonce1 || !hex2bin(c->enonce1, s.p, s.n / 2))
			die("bad enonce1");
		c->en1len = s.n / 2;
		c->en2len = atoi(a[2].p);
		if (c->en2len < 1 || c->en2len > 32)
			die("bad enonce2 length %d", c->en2len);
		c->state = S_AUTHORISE;
		conn_say(c, "{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"%s\",\"%s\"]}\n", c->user, opt.pass);
		return;
	}
	if (c->state == S_AUTHORISE && id == 2) {
		if (!yes)
			die("authorise refused: %.*s", (int)m->error.n, m->error.p);
		c->authorised = true;
		check_ready(c, t);
		return;
	}
	struct slot *s = &c->slots[id % slot_count];
	if (!s->busy || s->id != id)
		return;
	s->busy = false;
	c->outstanding--;
	if (!s->measured)
		return;
	hist_add(&lat, t - s->t);
	if (yes) {
		st.accepted++;
		st.bad_accepted += s->bad;
	} else {
		st.rejected++;
		st.bad_rejected += s->bad;
		/* An honest share may be refused as stale, while the job that made
		 * it so is on its way to us. Everything else is wrong. */
		if (!s->bad) {
			bool stale = m->error.n && (memmem(m->error.p, m->error.n, "tale", 4) || memmem(m->error.p, m->error.n, "[21,", 4));
			if (!stale)
				st.wrong++;
			else if (s->work == c->work)
				c->untold_stale++;
		}
		count_reason(m->error.p ? m->error.p : "", m->error.n);
	}
}

static void on_readable(struct conn *c)
{
	for (int turn = 0; turn < 4; turn++) {
		if (c->rxcap - c->rxlen < 2048)
			c->rx = xalloc(c->rx, c->rxcap = c->rxcap ? c->rxcap * 2 : 4096);
		size_t want = c->rxcap - c->rxlen;
		ssize_t n = recv(c->fd, c->rx + c->rxlen, want, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			conn_dead(c);
			return;
		}
		double t = now();
		char *p = c->rx, *e = c->rx + c->rxlen + n, *nl;
		st.bytes_in += n;
		while ((nl = memchr(p, '\n', e - p))) {
			struct message m;
			if (parse_message(p, nl - p, &m)) {
				if (m.method.n)
					on_method(c, &m, t);
				else
					on_result(c, &m, t);
				if (c->state == S_DEAD)
					return;
			}
			p = nl + 1;
		}
		memmove(c->rx, p, e - p);
		c->rxlen = e - p;
		if ((size_t)n < want)
			break;
	}
	fill_window(c);
}

static void on_event(struct conn *c, uint32_t ev)
{
	if (c->state == S_DEAD)
		return;
	if (c->state == S_CONNECTING) {
		int e = 0;
		socklen_t l = sizeof e;
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &l);
		if (e)
			die("connect: %s", strerror(e));
		c->state = S_SUBSCRIBE;
		conn_say(c, "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"%s\"]}\n", opt.agent);
	} else if (ev & EPOLLOUT) {
		conn_flush(c);
		if (c->state == S_READY)
			fill_window(c);
	}
	if (c->state != S_DEAD && ev & (EPOLLIN | EPOLLHUP | EPOLLERR))
		on_readable(c);
}

/* handle what is there, waiting at most the given seconds */
static void pump(double wait)
{
	struct epoll_event ev[512];
	struct pollfd pf = { .fd = epfd, .events = POLLIN };
	/* epoll_wait counts in whole milliseconds, ppoll does not */
	if (wait > 0) {
		struct timespec ts = { (time_t)wait, (long)((wait - floor(wait)) * 1e9) };
		ppoll(&pf, 1, &ts, NULL);
	}
	int n = epoll_wait(epfd, ev, 512, 0);
	for (int i = 0; i < n; i++)
		on_event(ev[i].data.ptr, ev[i].events);
}

static void setup(void)
{
	double t0 = now(), told = t0;
	while (ready_count < opt.conns) {
		while (in_setup < opt.ramp && next_start < opt.conns)
			conn_start(&conns[next_start++]);
		pump(0.1);
		if (dead_count)
			die("%d connections closed by the server during set-up (%d ready)", dead_count, ready_count);
		if (now() - t0 > opt.setup_timeout)
			die("only %d of %d ready after %.0f s", ready_count, opt.conns, opt.setup_timeout);
		if (!opt.json && now() - told > 2) {
			told = now();
			fprintf(stderr, "%d of %d ready\n", ready_count, opt.conns);
		}
	}
}

/* ----------------------------------------------------------------- modes -- */

static void print_reasons(void)
{
	bool first = true;
	printf(opt.json ? ",\"reasons\":{" : "");
	for (int i = 0; i < 24 && reasons[i].n; i++) {
		if (opt.json)
			printf("%s\"%s\":%lu", first ? "" : ",", reasons[i].text, reasons[i].n);
		else
			printf("  rejected %-10lu %s\n", reasons[i].n, reasons[i].text);
		first = false;
	}
	printf(opt.json ? "}" : "");
}

static void run_connect(void)
{
	struct usage u0 = server_usage(), u1, u2;
	double c0 = own_cpu(), t0 = now(), t1, end;
	double *d = xalloc(NULL, sizeof *d * opt.conns);

	setup();
	t1 = now();
	u1 = server_usage();
	double gen = own_cpu() - c0;
	for (end = t1 + opt.hold; now() < end;)
		pump(end - now());
	u2 = server_usage();
	for (int i = 0; i < opt.conns; i++)
		d[i] = conns[i].t_ready - conns[i].t_start;
	qsort(d, opt.conns, sizeof *d, cmp_double);
	double kb = (u2.rss_kb - u0.rss_kb) / opt.conns;
	if (opt.json)
		printf("{\"mode\":\"connect\",\"label\":\"%s\",\"connections\":%d,\"seconds\":%.4f,\"per_second\":%.1f,"
		       "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"server_cpu_s\":%.2f,\"generator_cpu_s\":%.2f,"
		       "\"rss_before_kb\":%.0f,\"rss_ready_kb\":%.0f,\"rss_held_kb\":%.0f,\"rss_per_connection_kb\":%.3f,"
		       "\"hold_s\":%.1f,\"hold_cpu_s\":%.2f,\"disconnects\":%lu}\n", opt.label, opt.conns, t1 - t0, opt.conns / (t1 - t0),
		       pct(d, opt.conns, .5) * 1e3, pct(d, opt.conns, .99) * 1e3, d[opt.conns - 1] * 1e3, u1.cpu - u0.cpu, gen,
		       u0.rss_kb, u1.rss_kb, u2.rss_kb, kb, opt.hold, u2.cpu - u1.cpu, st.disconnects);
	else
		printf("%d connections ready in %.3f s (%.0f/s); each p50 %.2f ms, p99 %.2f ms, max %.2f ms\n"
		       "server: CPU %.2f s, RSS %.0f -> %.0f -> %.0f kB (%.2f kB per connection); generator CPU %.2f s\n"
		       "held %.1f s: server CPU %.2f s, %lu disconnects\n", opt.conns, t1 - t0, opt.conns / (t1 - t0),
		       pct(d, opt.conns, .5) * 1e3, pct(d, opt.conns, .99) * 1e3, d[opt.conns - 1] * 1e3, u1.cpu - u0.cpu,
		       u0.rss_kb, u1.rss_kb, u2.rss_kb, kb, gen, opt.hold, u2.cpu - u1.cpu, st.disconnects);
	free(d);
}

/* open loop: submit number k is due at t0 + k / rate; latency counts from then */
static void paced(double until, double *due)
{
	static int next;
	while (now() < until && ready_count) {
		double t = now();
		bool blocked = false;
		while (*due <= t && !blocked) {
			int i, k = 0;
			for (i = 0; i < opt.conns; i++) {
				k = (next + i) % opt.conns;
				if (can_submit(&conns[k]))
					break;
			}
			blocked = i == opt.conns;
			if (!blocked) {
				submit(&conns[k], *due);
				conn_flush(&conns[k]);
				next = (k + 1) % opt.conns;
				*due += 1 / opt.rate;
			}
		}
		double wait = *due - now();
		pump(blocked ? 0.001 : wait < 0.01 ? wait : 0.01);
	}
}

static void run_shares(void)
{
	setup();
	submitting = true;
	double due = now();
	for (int phase = 0; phase < 2; phase++) {
		double secs = phase ? opt.duration : opt.warmup, t0, t1, until;
		struct usage u0, u1;
		memset(&st, 0, sizeof st);
		measuring = phase;
		u0 = server_usage();
		double c0 = own_cpu();
		t0 = now();
		until = t0 + secs;
		if (opt.rate > 0) {
			if (due < t0 - 0.1)
				due = t0;
			paced(until, &due);
		} else {
			if (!phase)
				for (int i = 0; i < opt.conns; i++)
					fill_window(&conns[i]);
			while (now() < until && ready_count)
				pump(until - now());
		}
		t1 = now();
		u1 = server_usage();
		if (!phase)
			continue;
		double gen = own_cpu() - c0, s = t1 - t0, cpu = u1.cpu - u0.cpu;
		uint64_t acc = st.accepted, rej = st.rejected, done = acc + rej;
		/* let the last answers come in: they count for latency only */
		measuring = submitting = false;
		for (until = now() + 3; now() < until && ready_count;) {
			uint64_t left = 0;
			/* and so does the job that made a share stale */
			for (int i = 0; i < opt.conns; i++)
				left += conns[i].state == S_READY ? conns[i].outstanding + conns[i].untold_stale : 0;
			if (!left)
				break;
			pump(0.05);
		}
		for (until = now() + opt.linger; now() < until && ready_count;)
			pump(until - now());
		uint64_t left = st.unanswered;
		for (int i = 0; i < opt.conns; i++)
			left += conns[i].state == S_READY ? conns[i].outstanding : 0;
		uint64_t wrong = st.wrong;
		for (int i = 0; i < opt.conns; i++)
			wrong += conns[i].untold_stale;
		double per100k = done ? cpu / done * 1e5 : 0;
		if (opt.json) {
			printf("{\"mode\":\"shares\",\"label\":\"%s\",\"connections\":%d,\"window\":%d,\"rate\":%.0f,\"seconds\":%.3f,"
			       "\"accepted\":%lu,\"rejected\":%lu,\"accepted_per_s\":%.1f,\"rejected_per_s\":%.1f,"
			       "\"bad_sent\":%lu,\"bad_rejected\":%lu,\"bad_accepted\":%lu,\"wrong_rejected\":%lu,\"unanswered\":%lu,\"disconnects\":%lu,"
			       "\"p50_us\":%.0f,\"p99_us\":%.0f,\"p999_us\":%.0f,\"max_us\":%.0f,\"mean_us\":%.0f,"
			       "\"server_cpu_s\":%.2f,\"server_cpu_s_per_100k\":%.4f,\"server_rss_kb\":%.0f,"
			       "\"generator_cpu_s\":%.2f,\"hashes_per_share\":%.2f,\"set_difficulty\":%lu,\"notify\":%lu,\"difficulty\":%g",
			       opt.label, opt.conns, opt.window, opt.rate, s, acc, rej, acc / s, rej / s, st.bad_sent, st.bad_rejected,
			       st.bad_accepted, wrong, left, st.disconnects, hist_pct(&lat, .5), hist_pct(&lat, .99), hist_pct(&lat, .999),
			       lat.max, lat.total ? lat.sum / lat.total : 0, cpu, per100k, u1.rss_kb, gen,
			       st.sent ? (double)st.hashes / st.sent : 0, st.setdiffs, st.notifies, conns[0].job_diff);
			print_reasons();
			printf("}\n");
		} else {
			printf("%d connections, window %d, difficulty %g: %.0f accepted/s, %.0f rejected/s over %.2f s\n"
			       "latency us: p50 %.0f, p99 %.0f, p99.9 %.0f, max %.0f (%lu answers, %lu unanswered)\n"
			       "server: CPU %.2f s (%.3f s per 100k shares), RSS %.0f kB; generator CPU %.2f s, %.1f hashes per share\n"
			       "%lu set_difficulty, %lu notify, %lu disconnects, %lu honest shares wrongly refused\n",
			       opt.conns, opt.window, conns[0].job_diff, acc / s, rej / s, s,
			       hist_pct(&lat, .5), hist_pct(&lat, .99), hist_pct(&lat, .999), lat.max, lat.total, left,
			       cpu, per100k, u1.rss_kb, gen, st.sent ? (double)st.hashes / st.sent : 0,
			       st.setdiffs, st.notifies, st.disconnects, wrong);
			print_reasons();
		}
	}
}

/* GET of http://HOST:PORT/PATH, to the end of the answer; in a child process. Returns an exit status. */
static int http_get(const char *url)
{
	char host[128], port[8], path[256] = "", buf[4096];
	struct addrinfo hint = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *dst;
	bool ok = false;
	ssize_t n;
	int fd;

	if (sscanf(url, "http://%127[^:]:%7[0-9]%255s", host, port, path) < 2 || getaddrinfo(host, port, &hint, &dst))
		return 2;
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, dst->ai_addr, dst->ai_addrlen))
		return 3;
	n = snprintf(buf, sizeof buf, "GET %s HTTP/1.0\r\n\r\n", *path ? path : "/");
	if (send(fd, buf, n, MSG_NOSIGNAL) != n)
		return 4;
	for (bool first = true; (n = recv(fd, buf, sizeof buf, 0)) > 0; first = false)
		if (first)
			ok = n >= 12 && !memcmp(buf + 9, "200", 3);
	close(fd);
	return ok ? 0 : 5;
}

static void run_notify(void)
{
	double *d = xalloc(NULL, sizeof *d * opt.conns);

	if (!opt.trigger)
		die("notify mode needs --trigger");
	setup();
	for (int r = 0; r < opt.rounds; r++) {
		double end = now() + opt.hold, t0, t_ret = 0, c0;
		int got = 0, status = -1;
		while (now() < end)
			pump(end - now());
		for (int i = 0; i < opt.conns; i++)
			conns[i].t_notify = 0;
		struct usage u0 = server_usage();
		c0 = own_cpu();
		t0 = now();
		pid_t pid = fork();
		if (!pid) {
			if (!strncmp(opt.trigger, "http://", 7))
				_exit(http_get(opt.trigger));
			int nul = open("/dev/null", O_WRONLY);
			dup2(nul, 1);
			execl("/bin/sh", "sh", "-c", opt.trigger, (char *)NULL);
			_exit(127);
		}
		for (end = t0 + 30; now() < end;) {
			pump(0.0002);
			if (!t_ret && waitpid(pid, &status, WNOHANG) == pid)
				t_ret = now();
			if (!t_ret)
				continue;
			for (got = 0; got < opt.conns && (conns[got].t_notify || conns[got].state == S_DEAD); got++);
			if (got == opt.conns)
				break;
		}
		if (!t_ret) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			die("trigger did not return");
		}
		if (status)
			die("trigger failed with status %d", status);
		struct usage u1 = server_usage();
		double gen = own_cpu() - c0;
		int n = 0;
		for (int i = 0; i < opt.conns; i++)
			if (conns[i].t_notify)
				d[n++] = conns[i].t_notify;
		qsort(d, n, sizeof *d, cmp_double);
		double first = n ? d[0] : 0;
		if (opt.json)
			printf("{\"mode\":\"notify\",\"label\":\"%s\",\"connections\":%d,\"round\":%d,\"reached\":%d,"
			       "\"command_ms\":%.3f,\"first_after_start_ms\":%.3f,\"first_after_return_ms\":%.3f,"
			       "\"spread_p50_ms\":%.3f,\"spread_p99_ms\":%.3f,\"spread_max_ms\":%.3f,\"last_after_return_ms\":%.3f,"
			       "\"server_cpu_s\":%.2f,\"generator_cpu_s\":%.3f}\n",
			       opt.label, opt.conns, r + 1, n, (t_ret - t0) * 1e3, (first - t0) * 1e3, (first - t_ret) * 1e3,
			       (pct(d, n, .5) - first) * 1e3, (pct(d, n, .99) - first) * 1e3, (pct(d, n, 1) - first) * 1e3,
			       (pct(d, n, 1) - t_ret) * 1e3, u1.cpu - u0.cpu, gen);
		else
			printf("round %d: %d of %d notified; command took %.1f ms; first notify %.2f ms after its start, %.2f ms after its return\n"
			       "  after the first: p50 %.2f ms, p99 %.2f ms, last %.2f ms; last after return %.2f ms; server CPU %.2f s, generator CPU %.3f s\n",
			       r + 1, n, opt.conns, (t_ret - t0) * 1e3, (first - t0) * 1e3, (first - t_ret) * 1e3,
			       (pct(d, n, .5) - first) * 1e3, (pct(d, n, .99) - first) * 1e3, (pct(d, n, 1) - first) * 1e3,
			       (pct(d, n, 1) - t_ret) * 1e3, u1.cpu - u0.cpu, gen);
		fflush(stdout);
	}
	free(d);
}

/* ------------------------------------------------------------------ main -- */

static int pick(const char *const *names, const char *s)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(names[i], s))
			return i;
	die("unknown value %s", s);
	return 0;
}

/* the user format may hold one %d and nothing else that printf would expand */
static void check_user(const char *s)
{
	const char *p = strchr(s, '%');
	if (p && (p[1] != 'd' || strchr(p + 1, '%')))
		die("--user may hold one %%d");
}

int main(int argc, char **argv)
{
	enum { O_MODE = 1, O_HOST, O_PORT, O_CONNS, O_USER, O_WORKERS, O_PASS, O_AGENT, O_DURATION, O_WARMUP, O_WINDOW,
	       O_RATE, O_INVALID, O_KIND, O_TRIGGER, O_ROUNDS, O_HOLD, O_RAMP, O_SRC, O_TIMEOUT, O_PID, O_LABEL, O_JSON, O_LINGER, O_HELP };
	static const struct option lo[] = {
		{ "mode", 1, 0, O_MODE }, { "host", 1, 0, O_HOST }, { "port", 1, 0, O_PORT }, { "connections", 1, 0, O_CONNS },
		{ "user", 1, 0, O_USER }, { "workers", 1, 0, O_WORKERS }, { "pass", 1, 0, O_PASS }, { "agent", 1, 0, O_AGENT },
		{ "duration", 1, 0, O_DURATION }, { "warmup", 1, 0, O_WARMUP }, { "window", 1, 0, O_WINDOW }, { "rate", 1, 0, O_RATE },
		{ "invalid", 1, 0, O_INVALID }, { "invalid-kind", 1, 0, O_KIND }, { "trigger", 1, 0, O_TRIGGER },
		{ "rounds", 1, 0, O_ROUNDS }, { "hold", 1, 0, O_HOLD }, { "ramp", 1, 0, O_RAMP }, { "src-ips", 1, 0, O_SRC },
		{ "setup-timeout", 1, 0, O_TIMEOUT }, { "pid", 1, 0, O_PID }, { "label", 1, 0, O_LABEL }, { "json", 0, 0, O_JSON },
		{ "linger", 1, 0, O_LINGER },
		{ "help", 0, 0, O_HELP }, { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "", lo, NULL)) != -1)
		switch (c) {
		case O_MODE: opt.mode = pick(mode_names, optarg); break;
		case O_HOST: opt.host = optarg; break;
		case O_PORT: opt.port = optarg; break;
		case O_CONNS: opt.conns = atoi(optarg); break;
		case O_USER: opt.user = optarg; check_user(optarg); break;
		case O_WORKERS: opt.workers = atoi(optarg); break;
		case O_PASS: opt.pass = optarg; break;
		case O_AGENT: opt.agent = optarg; break;
		case O_DURATION: opt.duration = atof(optarg); break;
		case O_WARMUP: opt.warmup = atof(optarg); break;
		case O_WINDOW: opt.window = atoi(optarg); break;
		case O_RATE: opt.rate = atof(optarg); break;
		case O_INVALID: opt.invalid = atof(optarg); break;
		case O_KIND: opt.invalid_kind = pick(bad_names, optarg); break;
		case O_TRIGGER: opt.trigger = optarg; break;
		case O_ROUNDS: opt.rounds = atoi(optarg); break;
		case O_LINGER: opt.linger = atof(optarg); break;
		case O_HOLD: opt.hold = atof(optarg); break;
		case O_RAMP: opt.ramp = atoi(optarg); break;
		case O_SRC: opt.src_ips = atoi(optarg); break;
		case O_TIMEOUT: opt.setup_timeout = atof(optarg); break;
		case O_PID: take_pids(optarg); break;
		case O_LABEL: opt.label = optarg; break;
		case O_JSON: opt.json = true; break;
		case O_HELP: usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	if (optind < argc || opt.conns < 1 || opt.window < 1 || opt.ramp < 1 || opt.src_ips < 1 || opt.src_ips > 250) {
		usage(stderr);
		return 2;
	}
	struct rlimit rl;
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	if ((rlim_t)opt.conns + 16 > rl.rlim_cur)
		die("open file limit %lu is too small", (unsigned long)rl.rlim_cur);

	epfd = epoll_create1(EPOLL_CLOEXEC);
	slot_count = 8;
	while (slot_count < opt.window * 4)
		slot_count *= 2;
	conns = xalloc(NULL, sizeof *conns * opt.conns);
	memset(conns, 0, sizeof *conns * opt.conns);
	for (int i = 0; i < opt.conns; i++) {
		struct conn *k = &conns[i];
		k->fd = -1;
		k->index = i;
		k->next_id = 10;
		k->slots = xalloc(NULL, sizeof *k->slots * slot_count);
		memset(k->slots, 0, sizeof *k->slots * slot_count);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(k->user, sizeof k->user, opt.user, opt.workers ? i % opt.workers : i);
#pragma GCC diagnostic pop
	}
	if (opt.mode == M_CONNECT) run_connect();
	else if (opt.mode == M_SHARES) run_shares();
	else run_notify();
	return 0;
}
