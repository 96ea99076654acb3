/* The load client: holds thousands of event streams open and checks their events.

   Every document of the benchmark contains its number, starting at 1, and its time of insertion in
   microseconds of the monotonic clock: {..., "n":17, "t":1234567890, ...}. The client finds both in
   each event's data, checks that every connection receives every number once and in order, and
   records the latencies. It reports its state in lines of JSON:

     {"state":"open"}   every connection has received its response head
     {"state":"warm"}   every connection has received the first --warm-up events; counters restart
     {"state":"done"}   every connection has received --events more, or time is up; with all figures

   The client is single-threaded and must never be the bottleneck: it reads in large pieces, finds
   line ends with memchr, and copies only lines that are split between two reads. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_GZIP
#include <zlib.h>
#endif

#define READ_BYTES (256 * 1024)
#define CLIENTS_PER_ADDRESS 10000 /* the system has about 28,000 ports for each pair of addresses */
/* Interval between polls. If the client slept until data arrives, each send() would have to wake it up. The
   sender would pay for it a quarter of the cost of send(); browsers on other machines cause no such cost. */
#define BEAT_US 500
#define LINGER_US 200000          /* wait after the last event, to catch a repetition of it */

enum phase { CONNECTING, HEAD, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, BODY, CLOSED };

struct client {
    int fd;
    enum phase phase;
    bool compressed;
    bool has_comment;  /* the current block has a comment, which was counted */
    bool has_data;     /* the current block has a data line ... */
    long number;       /* ... with this number */
    int64_t inserted;  /* ... and this time of insertion */
    long next;         /* the expected number */
    size_t chunk;      /* bytes left in the chunk; while reading its size, the size so far */
    char *partial;     /* the start of a line, or of the head, that continues in the next read */
    size_t partial_length, partial_size;
#ifdef WITH_GZIP
    z_stream inflate;
#endif
};

/* The options. */
static const char *host = "127.0.0.1", *path = "/stream", *last_event_id = "";
static int port = 3333, clients = 1, window = 256, variety = INT_MAX;
static long first = 1, warm_up = 0, events = 0;
static double hold_seconds = 0, timeout_seconds = 120;
static bool gzip = false;

/* The counters. The counters of faults are never reset. */
static struct {
    long deliveries, keep_alives, wire_bytes, body_bytes, reads;
    int64_t first_insert, first_receipt, last_receipt;
} counted;
static struct {
    long skipped;  /* skipped numbers */
    long backward; /* events with a number not above all earlier ones: repeated or late */
    long strange;  /* events without a number, such as reset or bye */
    long refused;  /* connections without a 200 response */
    long closed;   /* connections that ended early */
} faults;

static struct client *all;
static int epoll_fd, started, in_flight, opened, at_goal;
static long goal; /* the number that every connection must reach next */
static int64_t now, opening_began, all_open;
static double cpu_base;
static char input[READ_BYTES];

static int64_t microseconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time); /* the clock of Python's time.monotonic_ns() */
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what)
{
    perror(what);
    exit(2);
}

/* -- latencies: a histogram with 64 steps to each power of two, exact to 1.6 % -------- */

#define STEPS 64
static long histogram[STEPS * 48];

static int step_of(int64_t value)
{
    if (value < STEPS)
        return value < 0 ? 0 : value;
    int shift = 57 - __builtin_clzll(value); /* keeps the highest bit and the next six */
    return (shift + 1) * STEPS + (value >> shift) - STEPS;
}

static int64_t value_of(int step)
{
    if (step < STEPS)
        return step;
    int shift = step / STEPS - 1;
    return ((int64_t)(step % STEPS + STEPS) << shift) + ((1LL << shift) >> 1);
}

static int64_t longest;

static int64_t percentile(double part)
{
    long total = 0, seen = 0;
    for (size_t i = 0; i < sizeof histogram / sizeof *histogram; i++)
        total += histogram[i];
    for (size_t i = 0; i < sizeof histogram / sizeof *histogram; i++)
        if ((seen += histogram[i]) > 0 && seen >= part * total)
            return value_of(i) < longest ? value_of(i) : longest;
    return 0;
}

/* -- events ---------------------------------------------------------------------------------------- */

static bool number_after(const char *key, const char **from, const char *end, int64_t *number)
{
    const char *at = memmem(*from, end - *from, key, strlen(key));
    if (!at)
        return false;
    at += strlen(key);
    while (at < end && *at == ' ')
        at++;
    if (at == end || *at < '0' || *at > '9')
        return false;
    for (*number = 0; at < end && *at >= '0' && *at <= '9'; at++)
        *number = *number * 10 + (*at - '0');
    *from = at;
    return true;
}

static void event(struct client *client)
{
    if (client->number < 0) {
        faults.strange++;
        return;
    }
    if (client->number < client->next) {
        faults.backward++;
        return;
    }
    faults.skipped += client->number - client->next;
    bool was_short = client->next <= goal;
    client->next = client->number + 1;
    if (was_short && client->next > goal)
        at_goal++;
    counted.deliveries++;
    if (client->inserted) {
        int64_t latency = now - client->inserted;
        histogram[step_of(latency)]++;
        if (latency > longest)
            longest = latency;
        if (!counted.first_insert || client->inserted < counted.first_insert)
            counted.first_insert = client->inserted;
    }
    if (!counted.first_receipt)
        counted.first_receipt = now;
    counted.last_receipt = now;
}

static void line(struct client *client, const char *text, size_t length)
{
    if (length && text[length - 1] == '\r')
        length--;
    if (!length) { /* the end of a block dispatches the event */
        if (client->has_data)
            event(client);
        else if (!client->has_comment)
            counted.keep_alives++;
        client->has_data = client->has_comment = false;
    } else if (*text == ':') { /* Mercure sends a comment without an empty line */
        counted.keep_alives++;
        client->has_comment = true;
    } else if (length > 5 && !memcmp(text, "data:", 5)) {
        const char *from = text + 5, *end = text + length;
        int64_t number;
        client->has_data = true;
        client->inserted = 0;
        client->number = number_after("\"n\":", &from, end, &number) ? number : -1;
        if (client->number >= 0 && number_after("\"t\":", &from, end, &number))
            client->inserted = number;
    }
}

static void keep(struct client *client, const char *data, size_t length)
{
    size_t needed = client->partial_length + length;
    if (needed > client->partial_size) {
        client->partial_size = needed + 64;
        client->partial = realloc(client->partial, client->partial_size);
        if (!client->partial)
            die("realloc");
    }
    memcpy(client->partial + client->partial_length, data, length);
    client->partial_length = needed;
}

static void lines(struct client *client, const char *data, size_t length)
{
    const char *end = data + length, *stop;
    counted.body_bytes += length;
    while (data < end && (stop = memchr(data, '\n', end - data))) {
        if (client->partial_length) {
            keep(client, data, stop - data);
            line(client, client->partial, client->partial_length);
            client->partial_length = 0;
        } else {
            line(client, data, stop - data);
        }
        data = stop + 1;
    }
    if (data < end)
        keep(client, data, end - data);
}

static void body(struct client *client, const char *data, size_t length)
{
#ifdef WITH_GZIP
    static char plain[READ_BYTES];
    if (client->compressed) {
        z_stream *stream = &client->inflate;
        stream->next_in = (Bytef *)data;
        stream->avail_in = length;
        do {
            stream->next_out = (Bytef *)plain;
            stream->avail_out = sizeof plain;
            int result = inflate(stream, Z_SYNC_FLUSH);
            lines(client, plain, sizeof plain - stream->avail_out);
            if (result != Z_OK)
                break;
        } while (stream->avail_in || !stream->avail_out);
        if (stream->avail_in)
            faults.strange++;
        return;
    }
#endif
    lines(client, data, length);
}

/* -- connections ----------------------------------------------------------------------------------- */

static void hang_up(struct client *client)
{
    close(client->fd);
    if (client->phase <= HEAD) {
        faults.refused++;
        in_flight--;
    } else {
        faults.closed++;
    }
    at_goal -= client->next > goal;
    client->phase = CLOSED;
}

static void connect_one(struct client *client)
{
    int number = client - all, on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct linger reset = {.l_onoff = 1}; /* close() sends RST, so that no port stays in TIME_WAIT */
    struct epoll_event wanted = {.events = EPOLLOUT, .data.ptr = client};

    client->next = first;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0)
        die("socket");
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) {
        fprintf(stderr, "%s is not an IPv4 address\n", host);
        exit(2);
    }
    if (ntohl(to.sin_addr.s_addr) >> 24 == 127) {
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number / CLIENTS_PER_ADDRESS);
        setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(client->fd, (struct sockaddr *)&from, sizeof from))
            die("bind");
    }
    if (connect(client->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        die("connect");
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &wanted))
        die("epoll_ctl");
    in_flight++;
}

static void request(struct client *client)
{
    char text[2048];
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = client};
    /* The client's number replaces a # in the path, so that each client has its own filter. */
    const char *mark = strchr(path, '#');
    char number[24] = "";
    if (mark)
        snprintf(number, sizeof number, "%ld", (long)(client - all) % variety);
    int length = snprintf(text, sizeof text,
                          "GET %.*s%s%s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\n%s%s%s%s\r\n",
                          (int)(mark ? mark - path : (long)strlen(path)), path, number, mark ? mark + 1 : "",
                          host, port, gzip ? "Accept-Encoding: gzip\r\n" : "",
                          *last_event_id ? "Last-Event-ID: " : "", last_event_id, *last_event_id ? "\r\n" : "");
    client->phase = HEAD;
    if (send(client->fd, text, length, MSG_NOSIGNAL) != length) {
        hang_up(client);
        return;
    }
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &wanted);
}

/* Reads the available part of the response head, and returns its end. */
static const char *head(struct client *client, const char *data, const char *end)
{
    const char *begin = data;
    while (data < end) {
        const char *stop = memchr(data, '\n', end - data);
        data = stop ? stop + 1 : end;
        keep(client, begin, data - begin);
        begin = data;
        const char *text = client->partial;
        size_t length = client->partial_length;
        if (!stop || length < 4 || memcmp(text + length - 4, "\r\n\r\n", 4))
            continue;
        keep(client, "", 1);
        text = client->partial;
        bool chunked = strcasestr(text, "\r\nTransfer-Encoding: chunked");
        client->compressed = strcasestr(text, "\r\nContent-Encoding: gzip");
        client->partial_length = 0;
        if (strncmp(text, "HTTP/1.1 200", 12) || (client->compressed && !gzip)) {
            hang_up(client);
            return end;
        }
#ifdef WITH_GZIP
        if (client->compressed && inflateInit2(&client->inflate, 15 + 16) != Z_OK)
            die("inflateInit2");
#endif
        client->phase = chunked ? CHUNK_SIZE : BODY;
        in_flight--;
        opened++;
        break;
    }
    return data;
}

static void feed(struct client *client, const char *data, size_t length)
{
    const char *end = data + length;
    while (data < end) {
        size_t there = end - data;
        switch (client->phase) {
        case HEAD:
            data = head(client, data, end);
            break;
        case CHUNK_SIZE: {
            char digit = *data++;
            if (digit == '\n')
                client->phase = CHUNK_DATA; /* the connection ends after the last chunk, of size 0 */
            else if (digit != '\r')
                client->chunk = client->chunk * 16 + (digit <= '9' ? digit - '0' : (digit | 32) - 'a' + 10);
            break;
        }
        case CHUNK_DATA:
            if (there > client->chunk)
                there = client->chunk;
            body(client, data, there);
            data += there;
            client->chunk -= there;
            if (!client->chunk)
                client->phase = CHUNK_END;
            break;
        case CHUNK_END:
            if (*data++ == '\n')
                client->phase = CHUNK_SIZE;
            break;
        case BODY:
            body(client, data, there);
            data = end;
            break;
        default:
            return;
        }
    }
}

static void ready(struct client *client)
{
    if (client->phase == CLOSED)
        return;
    if (client->phase == CONNECTING) {
        request(client);
        return;
    }
    ssize_t length = recv(client->fd, input, sizeof input, 0);
    if (length < 0 && errno == EAGAIN)
        return;
    if (length <= 0) {
        hang_up(client);
        return;
    }
    now = microseconds();
    counted.wire_bytes += length;
    counted.reads++;
    feed(client, input, length);
}

/* -- the report ---------------------------------------------------------------------------------- */

static void say(const char *state)
{
    printf("{\"state\":\"%s\"}\n", state);
    fflush(stdout);
}

static void start_counting(void)
{
    memset(&counted, 0, sizeof counted);
    memset(histogram, 0, sizeof histogram);
    longest = 0;
    cpu_base = cpu_seconds();
}

static void report(void)
{
    long missing = 0;
    for (int i = 0; i < clients; i++)
        if (all[i].next <= goal)
            missing += goal + 1 - all[i].next;
    printf("{\"state\":\"done\",\"clients\":%d,\"opened\":%d,\"open_seconds\":%.6f,", clients, opened,
           (all_open - opening_began) / 1e6);
    printf("\"deliveries\":%ld,\"seconds\":%.6f,", counted.deliveries,
           (counted.last_receipt - counted.first_receipt) / 1e6);
    printf("\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,", percentile(0.5) / 1e3, percentile(0.99) / 1e3,
           longest / 1e3);
    printf("\"first_insert_us\":%lld,\"opening_us\":%lld,\"first_receipt_us\":%lld,\"last_receipt_us\":%lld,",
           (long long)counted.first_insert, (long long)opening_began, (long long)counted.first_receipt,
           (long long)counted.last_receipt);
    printf("\"wire_bytes\":%ld,\"body_bytes\":%ld,\"reads\":%ld,\"keep_alives\":%ld,\"cpu_seconds\":%.6f,",
           counted.wire_bytes, counted.body_bytes, counted.reads, counted.keep_alives,
           cpu_seconds() - cpu_base);
    printf("\"faults\":{\"skipped\":%ld,\"backward\":%ld,\"missing\":%ld,\"strange\":%ld,\"refused\":%ld,"
           "\"closed\":%ld}}\n",
           faults.skipped, faults.backward, missing, faults.strange, faults.refused, faults.closed);
    fflush(stdout);
}

/* -- the loop -------------------------------------------------------------------------------------- */

/* Polls until every connection has reached the goal or ended, or until the given time. */
static void run(int64_t until, bool opening)
{
    static const struct timespec beat = {.tv_nsec = BEAT_US * 1000};
    struct epoll_event happened[1024];
    while (microseconds() < until) {
        if (opening && opened + faults.refused == clients)
            return;
        if (!opening && goal >= first && at_goal + faults.closed + faults.refused >= clients)
            return;
        while (opening && started < clients && in_flight < window)
            connect_one(&all[started++]);
        int count = epoll_wait(epoll_fd, happened, 1024, 0);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++)
            ready(happened[i].data.ptr);
        if (count <= 0)
            nanosleep(&beat, NULL);
    }
}

static void set_goal(long number)
{
    goal = number;
    at_goal = 0;
    for (int i = 0; i < clients; i++)
        at_goal += all[i].phase != CLOSED && all[i].next > goal;
}

static void parse(int argc, char **argv)
{
    static const struct option options[] = {
        {"host", 1, 0, 'h'},    {"port", 1, 0, 'p'},    {"path", 1, 0, 'u'},
        {"clients", 1, 0, 'c'}, {"variety", 1, 0, 'v'}, {"window", 1, 0, 'w'},
        {"first", 1, 0, 'f'},   {"warm-up", 1, 0, 'W'}, {"events", 1, 0, 'e'},
        {"hold", 1, 0, 'H'},    {"timeout", 1, 0, 't'}, {"last-event-id", 1, 0, 'i'},
        {"gzip", 0, 0, 'g'},    {0, 0, 0, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'h': host = optarg; break;
        case 'p': port = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'c': clients = atoi(optarg); break;
        case 'v': variety = atoi(optarg); break;
        case 'w': window = atoi(optarg); break;
        case 'f': first = atol(optarg); break;
        case 'W': warm_up = atol(optarg); break;
        case 'e': events = atol(optarg); break;
        case 'H': hold_seconds = atof(optarg); break;
        case 't': timeout_seconds = atof(optarg); break;
        case 'i': last_event_id = optarg; break;
        case 'g': gzip = true; break;
        default:
            fprintf(stderr, "usage: client --port N [--host IPV4] [--path PATH] [--clients N] [--variety N]\n"
                            "  [--window N] [--first N] [--warm-up N] [--events N] [--hold SECONDS]\n"
                            "  [--timeout SECONDS] [--last-event-id ID] [--gzip]\n");
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
#ifndef WITH_GZIP
    if (gzip) {
        fprintf(stderr, "this client was compiled without zlib\n");
        return 2;
    }
#endif
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < (rlim_t)clients + 16) {
        fprintf(stderr, "%d clients need a higher limit of open files (ulimit -n)\n", clients);
        return 2;
    }
    all = calloc(clients, sizeof *all);
    epoll_fd = epoll_create1(0);

    opening_began = microseconds();
    int64_t until = opening_began + (int64_t)(timeout_seconds * 1e6);
    set_goal(first - 1 + warm_up + (warm_up ? 0 : events));
    run(until, true);
    all_open = microseconds();
    say("open");
    if (warm_up) {
        run(until, false);
        start_counting();
        set_goal(first - 1 + warm_up + events);
        say("warm");
    }
    if (hold_seconds > 0) {
        start_counting();
        goal = first - 1;
        run(microseconds() + (int64_t)(hold_seconds * 1e6), false);
    } else {
        run(until, false);
        goal = first - 1;
        run(microseconds() + LINGER_US, false);
        goal = first - 1 + warm_up + events;
    }
    report();
    return 0;
}
