#!/usr/bin/env python3
"""A controller's end of the notifications, with pika, which knows nothing of this project.

amqp_consumer.py bind  URL EXCHANGE QUEUE              makes a durable queue that gets everything
amqp_consumer.py drain URL EXCHANGE QUEUE COUNT LIMIT  prints COUNT messages (or what came within LIMIT seconds), one JSON line each
A URL's query may hold ca=, cert= and key= files (amqps).
"""
import json
import ssl
import sys
import time
import urllib.parse

import pika


def connect(url):
    parts = urllib.parse.urlsplit(url)
    files = dict(urllib.parse.parse_qsl(parts.query))
    parameters = pika.URLParameters(urllib.parse.urlunsplit(parts._replace(query="")))
    if parts.scheme == "amqps":
        context = ssl.create_default_context(cafile=files["ca"])
        if "cert" in files:
            context.load_cert_chain(files["cert"], files["key"])
        parameters.ssl_options = pika.SSLOptions(context, parts.hostname)
    return pika.BlockingConnection(parameters)


def main():
    verb, url, exchange, queue = sys.argv[1:5]
    connection = connect(url)
    channel = connection.channel()
    if verb == "bind":
        channel.exchange_declare(exchange, "topic", durable=True)
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, exchange, "#")
    else:
        left, limit = int(sys.argv[5]), time.monotonic() + float(sys.argv[6])
        for method, properties, body in channel.consume(queue, inactivity_timeout=0.1):
            if method is not None:
                channel.basic_ack(method.delivery_tag)
                print(json.dumps({
                    "key": method.routing_key, "id": properties.message_id, "type": properties.type,
                    "mode": properties.delivery_mode, "content": properties.content_type,
                    "body": body.decode("utf-8")}))
                left -= 1
            if left <= 0 or time.monotonic() > limit:
                break
        channel.cancel()
    connection.close()


main()
