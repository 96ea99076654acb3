/* The floor: the minimum work of any server, one send() per batch and connection.

   It listens on the port in its argument and answers every request with the same response head.
   Standard input brings batches: a length (4 bytes, native byte order) and that many bytes of
   frames. The floor frames each batch once, as a chunk, and sends it to every connection in turn.
   The sockets block, so nothing is queued; no real server could afford that. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 65536
#define MAX_BYTES (1024 * 1024)

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                           "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

static int clients[CLIENTS], count;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void welcome(int listener)
{
    char request[4096];
    size_t length = 0;
    int on = 1, client = accept(listener, NULL, NULL);
    if (client < 0 || count == CLIENTS)
        die("accept");
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while (!memmem(request, length, "\r\n\r\n", 4)) {
        ssize_t more = recv(client, request + length, sizeof request - length, 0);
        if (more <= 0) {
            close(client);
            return;
        }
        length += more;
    }
    send(client, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL);
    clients[count++] = client;
}

static void read_fully(char *to, size_t length)
{
    while (length) {
        ssize_t more = read(STDIN_FILENO, to, length);
        if (more <= 0)
            exit(0);
        to += more;
        length -= more;
    }
}

/* Sends all available batches as one chunk, so that a late sender catches up. */
static void forward(void)
{
    static char *chunk;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    size_t size = 0, room = 16; /* for the chunk size, which is known only at the end */
    do {
        uint32_t length;
        read_fully((char *)&length, sizeof length);
        chunk = realloc(chunk, room + size + length + 2);
        if (!chunk)
            die("realloc");
        read_fully(chunk + room + size, length);
        size += length;
    } while (size < MAX_BYTES && poll(&input, 1, 0) > 0);
    char digits[16];
    int before = sprintf(digits, "%zx\r\n", size);
    char *begin = memcpy(chunk + room - before, digits, before);
    memcpy(chunk + room + size, "\r\n", 2);
    for (int i = 0; i < count; i++) {
        if (send(clients[i], begin, before + size + 2, MSG_NOSIGNAL) < 0) {
            close(clients[i]);
            clients[i--] = clients[--count];
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rlimit files;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_port = htons(argc > 1 ? atoi(argv[1]) : 3333);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
        die("listen");
    struct pollfd ready[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    while (poll(ready, 2, -1) > 0) {
        if (ready[1].revents)
            welcome(listener);
        if (ready[0].revents)
            forward();
    }
    return 0;
}
