// A kernel's USB without a kernel: the devices of a USB/IP server appear to one program as device nodes and in udev, through
// umockdev. libusb and libudev in that program are the real, unmodified ones.
//
//   usb_bridge PORT BUSID[,BUSID...] [--control SOCKET] [--as-nobody] [--absent] -- PROGRAM ARGUMENTS...
//
// SOCKET takes lines and answers each with one line:
//   plug N | unplug N          device N (from 0) comes or goes: node, sysfs, uevent, and its transfers
//   unplug-at N K MS           it goes at the K-th transfer from now, and comes back after MS ms
//   deny N | allow N           the node's mode: 0000 or 0666
//   firmware N newer|foreign|own   what device N is from its next plug on: of a release to come, without USBTMC, or itself
//   halt N ENDPOINT            the device halts an endpoint (hexadecimal)
//   freeze N MS                the bus brings nothing for so long
//   stranger                   somebody else's adapter comes: any open of it is counted
//   lines                      serial lines come: two of ours, one that a site's rule gives to a device, two of somebody else
//   state N                    "plugged= driver= claims= transfers= node="
//   opened                     how often the stranger's node was spoken to
//
// The node of every plug has a new number, as on a real bus. Interface 0 begins with the kernel's driver `usbtmc` bound.
// Build: cc usb_bridge.c $(pkg-config --cflags --libs umockdev-1.0 gio-2.0)
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/usbdevice_fs.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <umockdev.h>
#include <unistd.h>

enum { DEVICES = 4, INTERFACES = 8 };
#define HUB "/sys/devices/pci0000:00/0000:00:14.0/usb1"

typedef struct {
    UMockdevIoctlData *urb, *buffer;
    UMockdevIoctlClient *client;
    guint32 sequence;
    int plug; // which of the device's plugs it belongs to
} Pending;

typedef struct {
    int index, socket, number, plug;
    char bus_id[32], serial[64], product[64], maker[64], path[64], node[64];
    unsigned char descriptors[512];
    int descriptor_length;
    guint32 speed, sequence;
    gboolean plugged;    // in the bus's eyes
    gboolean dead;       // gone: every call fails from now on
    GList *waiting, *done;
    char driver[INTERFACES][16];
    UMockdevIoctlClient *claim[INTERFACES];
    long transfers, unplug_at;
    int replug_after;
    gint64 replug_time, frozen_until;
    char firmware[16];
    unsigned char *input;
    size_t have, room;
    guint32 reply_sequence; // of a control transfer that is waited for
    gint32 reply_status;
    unsigned char reply[512];
    int reply_length;
} Device;

/// A node that was pulled out.
typedef struct {
    char node[64];
    gint64 time;
} Retired;

static Device devices[DEVICES];
static GList *old_nodes;
static int device_count, port_number, next_number = 2;
static UMockdevTestbed *bed;
static GRecMutex lock;
static int wake_pipe[2];
static long stranger_calls;

static void fail(const char *what) {
    fprintf(stderr, "usb_bridge: %s: %s\n", what, strerror(errno));
    exit(99);
}

// MARK: USB/IP

static void put32(unsigned char *at, guint32 value) { value = htonl(value); memcpy(at, &value, 4); }
static guint32 get32(const unsigned char *at) { guint32 value; memcpy(&value, at, 4); return ntohl(value); }

static int send_all(int fd, const void *bytes, size_t count) {
    for (const unsigned char *p = bytes; count > 0;) {
        ssize_t n = send(fd, p, count, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) { poll(&(struct pollfd){fd, POLLOUT, 0}, 1, 1000); continue; }
        if (n <= 0) return -1;
        p += n, count -= n;
    }
    return 0;
}

static int receive_all(int fd, void *bytes, size_t count) {
    for (unsigned char *p = bytes; count > 0;) {
        ssize_t n = recv(fd, p, count, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        p += n, count -= n;
    }
    return 0;
}

static void end_pending(Device *device, Pending *pending, int status, int length) {
    struct usbdevfs_urb *urb = (void *)pending->urb->data;
    urb->status = status;
    urb->actual_length = length;
    device->waiting = g_list_remove(device->waiting, pending);
    device->done = g_list_append(device->done, pending);
}

static void release(UMockdevIoctlData *data) { umockdev_ioctl_data_unref(data); }

static void free_pending(Pending *pending) {
    if (pending->buffer) release(pending->buffer);
    release(pending->urb);
    g_free(pending);
}

/// The device is gone: what waits ends, what comes fails.
static void kill_device(Device *device) {
    device->dead = TRUE;
    while (device->waiting) end_pending(device, device->waiting->data, -ESHUTDOWN, 0);
    if (device->socket >= 0) close(device->socket);
    device->socket = -1;
    device->have = 0;
    if (write(wake_pipe[1], "x", 1) < 0) fail("wake");
}

static int submit(Device *device, guint32 sequence, gboolean in, int endpoint, guint32 length, const unsigned char *setup,
                  const unsigned char *data) {
    unsigned char header[48] = {0};
    put32(header, 1);
    put32(header + 4, sequence);
    put32(header + 8, 0x00010002);
    put32(header + 12, in ? 1 : 0);
    put32(header + 16, endpoint);
    put32(header + 24, length);
    if (setup) memcpy(header + 40, setup, 8);
    if (send_all(device->socket, header, 48) < 0) return -1;
    return in || length == 0 ? 0 : send_all(device->socket, data, length);
}

static Pending *find(Device *device, guint32 sequence) {
    for (GList *l = device->waiting; l; l = l->next)
        if (((Pending *)l->data)->sequence == sequence) return l->data;
    return NULL;
}

/// One answer of the server, if it is there whole. Returns the bytes that it took.
static size_t take_answer(Device *device, const unsigned char *at, size_t have) {
    if (have < 48) return 0;
    guint32 command = get32(at), sequence = get32(at + 4), length = get32(at + 24);
    gint32 status = (gint32)get32(at + 20);
    if (command == 4) return 48; // RET_UNLINK: it was ended when it was taken back
    Pending *pending = find(device, sequence);
    gboolean is_reply = sequence == device->reply_sequence;
    struct usbdevfs_urb *urb = pending ? (void *)pending->urb->data : NULL;
    gboolean in = urb && (urb->type == USBDEVFS_URB_TYPE_CONTROL ? pending->buffer->data[0] & 0x80 : urb->endpoint & 0x80);
    // The header does not say which way: the low bit of a sequence number does.
    gboolean has_data = sequence & 1;
    size_t whole = 48 + (has_data ? length : 0);
    if (have < whole) return 0;
    if (is_reply) {
        device->reply_status = status;
        device->reply_length = has_data ? MIN(length, sizeof device->reply) : 0;
        memcpy(device->reply, at + 48, device->reply_length);
        device->reply_sequence = 0;
    } else if (pending) {
        size_t start = urb->type == USBDEVFS_URB_TYPE_CONTROL ? 8 : 0;
        if (in && length > 0) umockdev_ioctl_data_update(pending->buffer, start, (guint8 *)at + 48, length);
        end_pending(device, pending, status, length);
    }
    return whole;
}

/// Takes what the server sent. Waits at most `wait` ms for the first of it.
static void service(Device *device, int wait) {
    if (device->socket < 0) return;
    if (g_get_monotonic_time() < device->frozen_until) {
        g_usleep(1000 * wait);
        return;
    }
    if (poll(&(struct pollfd){device->socket, POLLIN, 0}, 1, wait) <= 0) return;
    while (device->socket >= 0) {
        if (device->room - device->have < 1 << 20) {
            device->room = device->have + (2 << 20);
            device->input = g_realloc(device->input, device->room);
        }
        ssize_t n = recv(device->socket, device->input + device->have, device->room - device->have, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) { kill_device(device); return; }
        device->have += n;
        size_t used = 0, one;
        while ((one = take_answer(device, device->input + used, device->have - used)) > 0) used += one;
        memmove(device->input, device->input + used, device->have - used);
        device->have -= used;
    }
}

static guint32 next_sequence(Device *device, gboolean in) { device->sequence += 2; return device->sequence | (in ? 1 : 0); }

/// A control transfer of the kernel's own. Returns bytes, or a negative errno.
static int control(Device *device, int type, int request, int value, int index, int length) {
    unsigned char setup[8] = {type, request, value, value >> 8, index, index >> 8, length, length >> 8};
    guint32 sequence = device->reply_sequence = next_sequence(device, type & 0x80);
    if (submit(device, sequence, type & 0x80, 0, length, setup, NULL) < 0) return -ENODEV;
    for (int i = 0; i < 2000 && device->reply_sequence && device->socket >= 0; i++) service(device, 5);
    if (device->reply_sequence) { device->reply_sequence = 0; return device->socket < 0 ? -ENODEV : -ETIMEDOUT; }
    return device->reply_status < 0 ? device->reply_status : device->reply_length;
}

static void string_descriptor(Device *device, int index, char *into, size_t room) {
    int n = control(device, 0x80, 6, 0x300 | index, 0x409, 255);
    size_t k = 0;
    for (int i = 2; i + 1 < n && k + 1 < room; i += 2) into[k++] = device->reply[i];
    into[k] = 0;
}

/// Attaches to the server and reads the descriptors, as a kernel does.
static int import(Device *device) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port_number), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    unsigned char request[40] = {1, 0x11, 0x80, 3}, reply[8], record[312];
    strcpy((char *)request + 8, device->bus_id);
    if (connect(fd, (void *)&address, sizeof address) < 0 || send_all(fd, request, 40) < 0 || receive_all(fd, reply, 8) < 0 ||
        get32(reply + 4) != 0 || receive_all(fd, record, 312) < 0) {
        close(fd);
        return -1;
    }
    device->speed = get32(record + 256 + 32 + 8);
    device->socket = fd;
    device->dead = FALSE;
    device->have = 0;
    int n = control(device, 0x80, 6, 0x100, 0, 18);
    if (n != 18) return -1;
    memcpy(device->descriptors, device->reply, 18);
    n = control(device, 0x80, 6, 0x200, 0, 512);
    if (n < 9) return -1;
    memcpy(device->descriptors + 18, device->reply, n);
    device->descriptor_length = 18 + n;
    if (!strcmp(device->firmware, "newer")) device->descriptors[13] = 9;
    // The interfaces' class and subclass stand in their descriptors.
    for (int i = 18; !strcmp(device->firmware, "foreign") && i + 8 < device->descriptor_length && device->descriptors[i]; i += device->descriptors[i])
        if (device->descriptors[i + 1] == 4) device->descriptors[i + 5] = 0xFF, device->descriptors[i + 6] = 0;
    string_descriptor(device, device->descriptors[14], device->maker, sizeof device->maker);
    string_descriptor(device, device->descriptors[15], device->product, sizeof device->product);
    string_descriptor(device, device->descriptors[16], device->serial, sizeof device->serial);
    return control(device, 0, 9, 1, 0, 0) < 0 ? -1 : 0;
}

// MARK: usbfs

static void complete(UMockdevIoctlClient *client, long result, int code) { umockdev_ioctl_client_complete(client, result, code); }

static void submit_urb(Device *device, UMockdevIoctlClient *client, UMockdevIoctlData *argument) {
    Pending *pending = g_new0(Pending, 1);
    pending->urb = umockdev_ioctl_data_resolve(argument, 0, sizeof(struct usbdevfs_urb), NULL);
    struct usbdevfs_urb *urb = (void *)pending->urb->data;
    if (urb->buffer_length > 0)
        pending->buffer = umockdev_ioctl_data_resolve(pending->urb, G_STRUCT_OFFSET(struct usbdevfs_urb, buffer), urb->buffer_length, NULL);
    pending->client = client;
    pending->plug = device->plug;
    gboolean is_control = urb->type == USBDEVFS_URB_TYPE_CONTROL;
    unsigned char *bytes = pending->buffer ? pending->buffer->data : NULL;
    gboolean in = is_control ? bytes[0] & 0x80 : urb->endpoint & 0x80;
    pending->sequence = next_sequence(device, in);
    device->waiting = g_list_append(device->waiting, pending);
    int length = is_control ? urb->buffer_length - 8 : urb->buffer_length;
    device->transfers++;
    if (device->unplug_at > 0 && --device->unplug_at == 0) {
        device->replug_time = device->replug_after < 0 ? 0 : g_get_monotonic_time() + 1000 * device->replug_after;
        kill_device(device);
    } else if (submit(device, pending->sequence, in, urb->endpoint & 15, length, is_control ? bytes : NULL,
                      is_control ? bytes + 8 : bytes) < 0) {
        kill_device(device);
    }
    complete(client, 0, 0);
}

static void reap(Device *device, UMockdevIoctlClient *client, UMockdevIoctlData *argument, int plug) {
    gboolean dead = device->dead || plug != device->plug;
    GList *entry = NULL;
    for (int look = 0; look < 2 && !entry; look++) {
        for (entry = device->done; entry; entry = entry->next)
            if (((Pending *)entry->data)->client == client && ((Pending *)entry->data)->plug == plug) break;
        // libusb asks without end while a node is open: let it wait a moment where nothing is there.
        if (!entry && look == 0) {
            if (dead) g_usleep(1000);
            else service(device, 1);
        }
    }
    if (!entry) return complete(client, -1, dead ? ENODEV : EAGAIN);
    Pending *pending = entry->data;
    device->done = g_list_delete_link(device->done, entry);
    UMockdevIoctlData *place = umockdev_ioctl_data_resolve(argument, 0, sizeof(void *), NULL);
    umockdev_ioctl_data_set_ptr(place, 0, pending->urb);
    complete(client, 0, 0);
    release(place);
    free_pending(pending);
}

static void discard(Device *device, UMockdevIoctlClient *client, UMockdevIoctlData *argument) {
    gulong wanted = *(gulong *)argument->data;
    for (GList *l = device->waiting; l; l = l->next) {
        Pending *pending = l->data;
        if (pending->client != client || pending->urb->client_addr != wanted) continue;
        unsigned char header[48] = {0};
        put32(header, 2);
        put32(header + 4, next_sequence(device, FALSE));
        put32(header + 8, 0x00010002);
        put32(header + 20, pending->sequence);
        send_all(device->socket, header, 48);
        // What the server still sends for it is dropped by its number.
        end_pending(device, pending, -ENOENT, 0);
        return complete(client, 0, 0);
    }
    complete(client, -1, EINVAL);
}

static void get_driver(Device *device, UMockdevIoctlClient *client, UMockdevIoctlData *argument) {
    UMockdevIoctlData *data = umockdev_ioctl_data_resolve(argument, 0, sizeof(struct usbdevfs_getdriver), NULL);
    struct usbdevfs_getdriver query = *(struct usbdevfs_getdriver *)data->data;
    const char *driver = query.interface >= INTERFACES ? "" : device->claim[query.interface] ? "usbfs" : device->driver[query.interface];
    if (!*driver) {
        complete(client, -1, ENODATA);
    } else {
        g_strlcpy(query.driver, driver, sizeof query.driver);
        umockdev_ioctl_data_update(data, 0, (guint8 *)&query, sizeof query);
        complete(client, 0, 0);
    }
    release(data);
}

static void driver_ioctl(Device *device, UMockdevIoctlClient *client, UMockdevIoctlData *argument) {
    UMockdevIoctlData *data = umockdev_ioctl_data_resolve(argument, 0, sizeof(struct usbdevfs_ioctl), NULL);
    struct usbdevfs_ioctl *query = (void *)data->data;
    int code = 0;
    if (query->ifno < 0 || query->ifno >= INTERFACES) code = EINVAL;
    else if (query->ioctl_code == (int)USBDEVFS_DISCONNECT) {
        if (!*device->driver[query->ifno]) code = ENODATA;
        device->driver[query->ifno][0] = 0;
    } else if (query->ioctl_code == (int)USBDEVFS_CONNECT) {
        if (device->claim[query->ifno]) code = EBUSY;
        else if (query->ifno == 0) strcpy(device->driver[0], "usbtmc");
    } else code = ENOTTY;
    // The kernel says how many drivers were bound.
    gboolean bound = query->ioctl_code == (int)USBDEVFS_CONNECT;
    release(data);
    complete(client, code ? -1 : bound, code);
}

static void claim(Device *device, UMockdevIoctlClient *client, unsigned interface, gboolean take) {
    if (interface >= INTERFACES) return complete(client, -1, EINVAL);
    UMockdevIoctlClient **holder = &device->claim[interface];
    if (take && ((*holder && *holder != client) || *device->driver[interface])) return complete(client, -1, EBUSY);
    if (!take && *holder != client) return complete(client, -1, EINVAL);
    *holder = take ? client : NULL;
    complete(client, 0, 0);
}

static unsigned number_argument(UMockdevIoctlData *argument) {
    UMockdevIoctlData *data = umockdev_ioctl_data_resolve(argument, 0, sizeof(unsigned), NULL);
    unsigned value = *(unsigned *)data->data;
    release(data);
    return value;
}

static void finish_control(UMockdevIoctlClient *client, int result) { complete(client, result < 0 ? -1 : 0, result < 0 ? -result : 0); }

static gboolean answer(UMockdevIoctlBase *base, UMockdevIoctlClient *client, Device *device) {
    // A node that was opened before the device was pulled out stays dead when it is put back.
    int plug = GPOINTER_TO_INT(g_object_get_data(G_OBJECT(base), "plug"));
    gulong request = umockdev_ioctl_client_get_request(client);
    UMockdevIoctlData *argument = umockdev_ioctl_client_get_arg(client);
    g_rec_mutex_lock(&lock);
    gboolean may_outlive = request == USBDEVFS_REAPURB || request == USBDEVFS_REAPURBNDELAY || request == USBDEVFS_DISCARDURB;
    if ((device->dead || plug != device->plug) && !may_outlive) {
        complete(client, -1, ENODEV);
    } else
        switch (request) {
        case USBDEVFS_GET_CAPABILITIES: {
            UMockdevIoctlData *data = umockdev_ioctl_data_resolve(argument, 0, 4, NULL);
            guint32 able = USBDEVFS_CAP_BULK_SCATTER_GATHER | USBDEVFS_CAP_NO_PACKET_SIZE_LIM | USBDEVFS_CAP_REAP_AFTER_DISCONNECT |
                           USBDEVFS_CAP_ZERO_PACKET;
            umockdev_ioctl_data_update(data, 0, (guint8 *)&able, 4);
            release(data);
            complete(client, 0, 0);
            break;
        }
        case USBDEVFS_GETDRIVER: get_driver(device, client, argument); break;
        case USBDEVFS_IOCTL: driver_ioctl(device, client, argument); break;
        case USBDEVFS_CLAIMINTERFACE: claim(device, client, number_argument(argument), TRUE); break;
        case USBDEVFS_RELEASEINTERFACE: claim(device, client, number_argument(argument), FALSE); break;
        case USBDEVFS_SETCONFIGURATION: finish_control(client, control(device, 0, 9, number_argument(argument), 0, 0)); break;
        case USBDEVFS_CLEAR_HALT: finish_control(client, control(device, 2, 1, 0, number_argument(argument), 0)); break;
        case USBDEVFS_SETINTERFACE: {
            UMockdevIoctlData *data = umockdev_ioctl_data_resolve(argument, 0, sizeof(struct usbdevfs_setinterface), NULL);
            struct usbdevfs_setinterface set = *(struct usbdevfs_setinterface *)data->data;
            release(data);
            finish_control(client, control(device, 1, 11, set.altsetting, set.interface, 0));
            break;
        }
        case USBDEVFS_RESET: complete(client, 0, 0); break;
        case USBDEVFS_SUBMITURB: submit_urb(device, client, argument); break;
        case USBDEVFS_REAPURB:
        case USBDEVFS_REAPURBNDELAY: reap(device, client, argument, plug); break;
        case USBDEVFS_DISCARDURB: discard(device, client, argument); break;
        default: complete(client, -1, ENOTTY);
        }
    g_rec_mutex_unlock(&lock);

    return TRUE;
}

/// The program closed the node, or died with it open.
static void vanished(UMockdevIoctlBase *base, UMockdevIoctlClient *client, Device *device) {
    int plug = GPOINTER_TO_INT(g_object_get_data(G_OBJECT(base), "plug"));
    g_rec_mutex_lock(&lock);
    for (int i = 0; i < INTERFACES; i++)
        if (device->claim[i] == client && plug == device->plug) device->claim[i] = NULL;
    for (GList *l = device->waiting, *next; l; l = next) {
        next = l->next;
        Pending *pending = l->data;
        if (pending->client != client || pending->plug != plug) continue;
        device->waiting = g_list_delete_link(device->waiting, l);
        free_pending(pending);
    }
    for (GList *l = device->done, *next; l; l = next) {
        next = l->next;
        Pending *pending = l->data;
        if (pending->client != client || pending->plug != plug) continue;
        device->done = g_list_delete_link(device->done, l);
        free_pending(pending);
    }
    g_rec_mutex_unlock(&lock);
}

static gboolean answer_stranger(UMockdevIoctlBase *base, UMockdevIoctlClient *client, void *nothing) {
    (void)base, (void)nothing;
    stranger_calls++;
    complete(client, -1, ENODEV);
    return TRUE;
}

// MARK: udev

static void make_open(const char *node) {
    // The program may be somebody else: the bed's folders let it through.
    char *root = umockdev_testbed_get_root_dir(bed);
    char *command = g_strdup_printf("chmod a+rx '%s' && chmod -R a+rwX '%s/ioctl' 2>/dev/null; chmod -R a+rX '%s/sys' '%s/dev' '%s/run' 2>/dev/null;"
                                    "chmod 0666 '%s%s' 2>/dev/null",
                                    root, root, root, root, root, root, node);
    if (system(command) < 0) fail("chmod");
    g_free(command);
    g_free(root);
}

static void add_node(const char *name, int number, const char *attributes, const unsigned char *descriptors, int length,
                     UMockdevIoctlBase *handler) {
    GString *text = g_string_new(NULL);
    g_string_printf(text,
                    "P: /devices/pci0000:00/0000:00:14.0/usb1%s%s\nN: bus/usb/001/%03d\nE: DEVNAME=/dev/bus/usb/001/%03d\nE: DEVTYPE=usb_device\n"
                    "E: SUBSYSTEM=usb\nE: BUSNUM=001\nE: DEVNUM=%03d\nE: MAJOR=189\nE: MINOR=%d\nA: busnum=1\nA: devnum=%d\n"
                    "A: bConfigurationValue=1\n%sH: descriptors=",
                    *name ? "/" : "", name, number, number, number, number - 1, number, attributes);
    for (int i = 0; i < length; i++) g_string_append_printf(text, "%02X", descriptors[i]);
    g_string_append(text, "\n");
    GError *error = NULL;
    char *node = g_strdup_printf("/dev/bus/usb/001/%03d", number);
    // The handler first: whoever opens a node while its socket is not ready is ended by umockdev.
    if ((handler && !umockdev_testbed_attach_ioctl(bed, node, handler, &error)) ||
        !umockdev_testbed_add_from_string(bed, text->str, &error)) {
        fprintf(stderr, "usb_bridge: %s\n", error->message);
        exit(99);
    }
    make_open(node);
    g_free(node);
    g_string_free(text, TRUE);
}

static int plug(Device *device) {
    if (device->plugged) return -1;
    if (import(device) < 0) {
        if (device->socket >= 0) close(device->socket);
        device->socket = -1;
        return -1;
    }
    device->number = next_number++;
    if (next_number > 120) next_number = 2;
    snprintf(device->node, sizeof device->node, "/dev/bus/usb/001/%03d", device->number);
    char name[16], attributes[400];
    snprintf(name, sizeof name, "1-%d", device->index + 1);
    snprintf(device->path, sizeof device->path, "%s/%s", HUB, name);
    snprintf(attributes, sizeof attributes,
             "A: speed=%s\nA: idVendor=%02x%02x\nA: idProduct=%02x%02x\nA: bcdDevice=%02x%02x\nA: serial=%s\nA: product=%s\nA: manufacturer=%s\n",
             device->speed == 5 ? "5000" : "480", device->descriptors[9], device->descriptors[8], device->descriptors[11],
             device->descriptors[10], device->descriptors[13], device->descriptors[12], device->serial, device->product, device->maker);
    memset(device->claim, 0, sizeof device->claim);
    memset(device->driver, 0, sizeof device->driver);
    strcpy(device->driver[0], "usbtmc");
    UMockdevIoctlBase *handler = umockdev_ioctl_base_new();
    device->plug++;
    g_object_set_data(G_OBJECT(handler), "plug", GINT_TO_POINTER(device->plug));
    g_signal_connect(handler, "handle-ioctl", G_CALLBACK(answer), device);
    g_signal_connect(handler, "client-vanished", G_CALLBACK(vanished), device);
    add_node(name, device->number, attributes, device->descriptors, device->descriptor_length, handler);
    g_object_unref(handler);
    device->plugged = TRUE;
    umockdev_testbed_uevent(bed, device->path, "add");
    return 0;
}

static void unplug(Device *device) {
    g_rec_mutex_lock(&lock);
    if (!device->dead) kill_device(device);
    g_rec_mutex_unlock(&lock);
    if (!device->plugged) return;
    device->plugged = FALSE;
    char *root = umockdev_testbed_get_root_dir(bed), *path = g_strconcat(root, device->node, NULL);
    unlink(path);
    g_free(path);
    g_free(root);
    umockdev_testbed_uevent(bed, device->path, "remove");
    umockdev_testbed_remove_device(bed, device->path);
    Retired *retired = g_new(Retired, 1);
    retired->time = g_get_monotonic_time();
    g_strlcpy(retired->node, device->node, sizeof retired->node);
    old_nodes = g_list_append(old_nodes, retired);
}

/// Whoever has a node open but has not spoken to it yet still has a second for that: nobody behind it would end the program.
static void retire(void) {
    while (old_nodes && ((Retired *)old_nodes->data)->time < g_get_monotonic_time() - G_USEC_PER_SEC) {
        umockdev_testbed_detach_ioctl(bed, ((Retired *)old_nodes->data)->node, NULL);
        g_free(old_nodes->data);
        old_nodes = g_list_delete_link(old_nodes, old_nodes);
    }
}

static void set_mode(Device *device, int mode) {
    char *root = umockdev_testbed_get_root_dir(bed), *path = g_strconcat(root, device->node, NULL);
    if (chmod(path, mode) < 0) fail(path);
    g_free(path);
    g_free(root);
}

/// A USB device with a tty, as udev's database has it after the rules. `rule`: what a site's own rule says of it.
static void add_line(int port, const char *tty, const char *vendor, const char *product, const char *name, const char *serial, const char *rule) {
    char text[1200];
    snprintf(text, sizeof text,
             "P: /devices/pci0000:00/0000:00:14.0/usb1/1-%d\nE: DEVTYPE=usb_device\nE: SUBSYSTEM=usb\nA: idVendor=%s\nA: idProduct=%s\nA: bcdDevice=0100\n"
             "A: product=%s\nA: serial=%s\nA: manufacturer=%s\n\n"
             "P: /devices/pci0000:00/0000:00:14.0/usb1/1-%d/1-%d:1.0\nE: DEVTYPE=usb_interface\nE: SUBSYSTEM=usb\n\n"
             "P: /devices/pci0000:00/0000:00:14.0/usb1/1-%d/1-%d:1.0/tty/%s\nN: %s\nE: DEVNAME=/dev/%s\nE: SUBSYSTEM=tty\n%s",
             port, vendor, product, name, serial, "Somebody", port, port, port, port, tty, tty, tty, rule);
    GError *error = NULL;
    if (!umockdev_testbed_add_from_string(bed, text, &error)) {
        fprintf(stderr, "usb_bridge: %s\n", error->message);
        exit(99);
    }
}

static void add_lines(void) {
    add_line(10, "ttyACM0", "1209", "0002", "CVTX-1", "ACM-TX-1", "");
    add_line(11, "ttyUSB0", "0403", "6001", "SDQKD CVRX-1", "FTDI-RX-1", "");
    add_line(12, "ttyUSB1", "10c4", "ea60", "CP2102 USB to UART", "0001", "E: QKD_SERIAL=SITE-RX-1\nE: QKD_ROLE=RECEIVER\n");
    add_line(13, "ttyUSB2", "0403", "6001", "FT232R USB UART", "A10K9XYZ", "");
    add_line(14, "ttyACM1", "1209", "0002", "Toaster", "TOASTER-1", "");
}

static const unsigned char hub_descriptors[] = {18, 1, 0, 2, 9, 0, 1, 64, 0x6b, 0x1d, 2, 0, 1, 2, 3, 2, 1, 1,
                                                9, 2, 25, 0, 1, 1, 0, 0xe0, 0, 9, 4, 0, 0, 1, 9, 0, 0, 0, 7, 5, 0x81, 3, 4, 0, 12};

// MARK: The remote control

static Device *device_at(const char *text) {
    int index = atoi(text);
    return index >= 0 && index < device_count ? &devices[index] : NULL;
}

static void obey(const char *line, char *reply, size_t room) {
    char word[32] = "", first[32] = "0", second[32] = "", third[32] = "";
    sscanf(line, "%31s %31s %31s %31s", word, first, second, third);
    Device *device = device_at(first);
    if (!device) {
        snprintf(reply, room, "no such device");
        return;
    }
    snprintf(reply, room, "ok");
    if (!strcmp(word, "plug")) {
        if (plug(device) < 0) snprintf(reply, room, "cannot be plugged in");
    } else if (!strcmp(word, "unplug")) {
        unplug(device);
    } else if (!strcmp(word, "unplug-at")) {
        g_rec_mutex_lock(&lock);
        device->unplug_at = atol(second);
        device->replug_after = *third ? atoi(third) : -1;
        g_rec_mutex_unlock(&lock);
    } else if (!strcmp(word, "deny") || !strcmp(word, "allow")) {
        set_mode(device, *word == 'd' ? 0 : 0666);
    } else if (!strcmp(word, "firmware")) {
        g_strlcpy(device->firmware, second, sizeof device->firmware);
    } else if (!strcmp(word, "halt")) {
        g_rec_mutex_lock(&lock);
        if (control(device, 0x02, 3, 0, strtol(second, NULL, 16), 0) < 0) snprintf(reply, room, "cannot be halted");
        g_rec_mutex_unlock(&lock);
    } else if (!strcmp(word, "freeze")) {
        g_rec_mutex_lock(&lock);
        device->frozen_until = g_get_monotonic_time() + 1000 * atol(second);
        g_rec_mutex_unlock(&lock);
    } else if (!strcmp(word, "stranger")) {
        UMockdevIoctlBase *handler = umockdev_ioctl_base_new();
        g_signal_connect(handler, "handle-ioctl", G_CALLBACK(answer_stranger), NULL);
        add_node("1-9", 125,
                 "A: speed=480\nA: idVendor=1209\nA: idProduct=0001\nA: bcdDevice=0100\nA: serial=STRANGER\nA: product=Toaster\nA: manufacturer=Somebody\n",
                 devices[0].descriptors, devices[0].descriptor_length, handler);
        umockdev_testbed_uevent(bed, HUB "/1-9", "add");
    } else if (!strcmp(word, "lines")) {
        add_lines();
    } else if (!strcmp(word, "opened")) {
        snprintf(reply, room, "%ld", stranger_calls);
    } else if (!strcmp(word, "state")) {
        g_rec_mutex_lock(&lock);
        int claims = 0;
        for (int i = 0; i < INTERFACES; i++) claims += device->claim[i] != NULL;
        snprintf(reply, room, "plugged=%d driver=%s claims=%d transfers=%ld node=%s armed=%ld", device->plugged && !device->dead,
                 *device->driver[0] ? device->driver[0] : "-", claims, device->transfers, device->node, device->unplug_at);
        g_rec_mutex_unlock(&lock);
    } else {
        snprintf(reply, room, "unknown command");
    }
}

/// Whatever the devices' own threads leave to this one: nodes go and come.
static int tend(void) {
    int wait = 100;
    retire();
    for (int i = 0; i < device_count; i++) {
        Device *device = &devices[i];
        if (device->dead && device->plugged) unplug(device);
        if (!device->replug_time) continue;
        gint64 rest = (device->replug_time - g_get_monotonic_time()) / 1000;
        if (rest > 0) wait = MIN(wait, rest + 1);
        else if (device->plugged || plug(device) == 0) device->replug_time = 0;
        else wait = 20;
    }
    return wait;
}

static int listen_at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (void *)&address, sizeof address) < 0 || listen(fd, 4) < 0) fail(path);
    chmod(path, 0666);
    return fd;
}

static void talk(int client) {
    char line[256], reply[256];
    ssize_t n = recv(client, line, sizeof line - 1, 0);
    if (n > 0) {
        line[n] = 0;
        obey(line, reply, sizeof reply - 1);
        strcat(reply, "\n");
        send_all(client, reply, strlen(reply));
    }
    close(client);
}

static pid_t start(char **command, gboolean as_nobody) {
    pid_t parent = getpid(), pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    if (as_nobody && (setgid(65534) < 0 || setuid(65534) < 0)) _exit(126);
    execvp(command[0], command);
    _exit(127);
}

int main(int count, char **arguments) {
    const char *control_path = NULL;
    gboolean as_nobody = FALSE, absent = FALSE;
    int next = 3;
    for (; next < count && strcmp(arguments[next], "--"); next++) {
        if (!strcmp(arguments[next], "--control") && next + 1 < count) control_path = arguments[++next];
        else if (!strcmp(arguments[next], "--as-nobody")) as_nobody = TRUE;
        else if (!strcmp(arguments[next], "--absent")) absent = TRUE;
        else break;
    }
    if (count < 5 || next + 1 >= count || strcmp(arguments[next], "--")) {
        fprintf(stderr, "usage: usb_bridge PORT BUSID[,BUSID...] [--control SOCKET] [--as-nobody] [--absent] -- PROGRAM ARGUMENTS...\n");
        return 99;
    }
    // libumockdev itself looks at the mocked /sys through the preloaded library.
    if (!strstr(getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") : "", "umockdev")) {
        setenv("LD_PRELOAD", "libumockdev-preload.so.0", 1);
        execv("/proc/self/exe", arguments);
        fail("exec");
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    // A node that goes leaves descriptors of umockdev behind.
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) files.rlim_cur = files.rlim_max, setrlimit(RLIMIT_NOFILE, &files);
    if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) < 0) fail("pipe");
    port_number = atoi(arguments[1]);
    bed = umockdev_testbed_new();
    add_node("", 1, "A: speed=480\nA: idVendor=1d6b\nA: idProduct=0002\n", hub_descriptors, sizeof hub_descriptors, NULL);
    char *save = NULL;
    for (char *id = strtok_r(arguments[2], ",", &save); id && device_count < DEVICES; id = strtok_r(NULL, ",", &save)) {
        Device *device = &devices[device_count];
        device->index = device_count++;
        device->socket = -1;
        g_strlcpy(device->bus_id, id, sizeof device->bus_id);
        if (!absent && plug(device) < 0) fail(id);
    }
    int server = control_path ? listen_at(control_path) : -1;
    pid_t pid = start(arguments + next + 1, as_nobody);
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        struct pollfd polled[] = {{wake_pipe[0], POLLIN, 0}, {server, POLLIN, 0}};
        poll(polled, server < 0 ? 1 : 2, MIN(tend(), 50));
        char drop[64];
        while (read(wake_pipe[0], drop, sizeof drop) > 0) {}
        if (server >= 0 && polled[1].revents) {
            int client = accept4(server, NULL, NULL, SOCK_CLOEXEC);
            if (client >= 0) talk(client);
        }
    }
    if (control_path) unlink(control_path);
    g_object_unref(bed);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
