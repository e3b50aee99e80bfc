"""Drives two key stores with the etsi-qkd-014-client package, as two applications would.

usage: etsi014.py MASTER_HOST:PORT SLAVE_HOST:PORT PKI_FOLDER MASTER_SAE SLAVE_SAE
Prints one JSON object; the keys themselves are compared here and not printed.
"""
import json
import sys

from etsi_qkd_014_client import QKD014Client


def main():
    master_host, slave_host, pki, master_sae, slave_sae = sys.argv[1:6]

    def client(host, sae):
        return QKD014Client(host, f"{pki}/{sae}.crt", f"{pki}/{sae}.key", f"{pki}/ca.crt")

    master, slave = client(master_host, master_sae), client(slave_host, slave_sae)
    report = {}

    code, status = master.get_status(slave_sae)
    report["status"] = [code, status.key_size, status.master_sae_id, status.slave_sae_id, status.max_sae_id_count]
    report["stored"] = status.stored_key_count

    # GET without parameters, then POST with them.
    pairs, lengths = [], []
    for arguments in ({}, {"number": 3, "size": 512}):
        code, container = master.get_key(slave_sae, **arguments)
        assert code == 200, (code, container)
        code, fetched = slave.get_key_with_key_IDs(master_sae, [key.key_id for key in container.keys])
        assert code == 200, (code, fetched)
        theirs = {key.key_id: key.key for key in fetched.keys}
        pairs += [theirs.get(key.key_id) == key.key for key in container.keys]
        lengths += [len(key.key) for key in container.keys]
        again, refusal = slave.get_key_with_key_IDs(master_sae, [key.key_id for key in container.keys])
        report["again"] = [again, refusal.message]
    report["equal"] = pairs
    report["lengths"] = lengths

    code, refusal = master.get_key(slave_sae, size=13)
    report["size"] = [code, refusal.message]
    code, refusal = master.get_key(slave_sae, number=1, extension_mandatory=[{"route": "direct"}])
    report["mandatory"] = [code, refusal.message]
    print(json.dumps(report))


main()
