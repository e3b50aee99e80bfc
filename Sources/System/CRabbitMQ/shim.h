// librabbitmq: AMQP 0-9-1. What its header says in macros and variadic functions stands here as Swift can read it.
#pragma once
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <amqp_ssl_socket.h>

enum {
    sdqkd_amqp_channel_close = 0x00140028,
    sdqkd_amqp_connection_close = 0x000A0032,
    sdqkd_amqp_basic_return = 0x003C0032,
    sdqkd_amqp_basic_ack = 0x003C0050,
    sdqkd_amqp_basic_nack = 0x003C0078,
};

static inline amqp_rpc_reply_t sdqkd_amqp_login_plain(
    amqp_connection_state_t state, const char *vhost, int heartbeat, const char *user, const char *password) {
    return amqp_login(
        state, vhost, AMQP_DEFAULT_MAX_CHANNELS, AMQP_DEFAULT_FRAME_SIZE, heartbeat, AMQP_SASL_METHOD_PLAIN, user, password);
}

static inline amqp_rpc_reply_t sdqkd_amqp_login_external(
    amqp_connection_state_t state, const char *vhost, int heartbeat, const char *identity) {
    return amqp_login(
        state, vhost, AMQP_DEFAULT_MAX_CHANNELS, AMQP_DEFAULT_FRAME_SIZE, heartbeat, AMQP_SASL_METHOD_EXTERNAL, identity);
}
