// A public RESTCONF client that people use: the modules restconf_get and restconf_config of ansible.netcommon.

import Foundation
import RESTCONF
import Testing

@Suite(.serialized) struct ServerAnsibleTests {
    @Test func ansibleReadsAndConfigures() async throws {
        let environment = ServerRig.root + "/.venv"
        let probe = try? await runProgram([
            environment + "/bin/python", "-c",
            "import ansible, ansible_collections.ansible.netcommon",
        ])
        try #require(probe?.status == 0, "ansible is not in .venv: run scripts/deps")
        try await ServerRig.serving { rig in
            try await rig.fill()
            let files = rig.pki.files("controller")
            try rig.scratch.write(
                """
                all:
                  hosts:
                    node:
                      ansible_host: 127.0.0.1
                      ansible_httpapi_port: \(rig.port)
                      ansible_connection: ansible.netcommon.httpapi
                      ansible_network_os: ansible.netcommon.restconf
                      ansible_httpapi_use_ssl: true
                      ansible_httpapi_validate_certs: true
                      ansible_httpapi_ca_path: \(files.authority)
                      ansible_httpapi_client_cert: \(files.certificate)
                      ansible_httpapi_client_key: \(files.key)
                      ansible_httpapi_use_proxy: false
                      ansible_user: unused
                      ansible_password: unused
                      ansible_python_interpreter: \(environment)/bin/python
                """, "ansible/inventory.yaml")
            try rig.scratch.write(Self.playbook, "ansible/play.yaml")
            let home = rig.scratch.path + "/ansible"
            let done = try await runProgram(
                [environment + "/bin/ansible-playbook", "-i", home + "/inventory.yaml", home + "/play.yaml"],
                environment: [
                    "PATH": "\(environment)/bin:/usr/bin:/bin", "HOME": home, "LANG": "C.UTF-8", "ANSIBLE_LOCAL_TEMP": home + "/tmp",
                    "ANSIBLE_HOME": home, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PERSISTENT_CONNECT_TIMEOUT": "20",
                    "ANSIBLE_PERSISTENT_CONTROL_PATH_DIR": home + "/pc", "ANSIBLE_STDOUT_CALLBACK": "default",
                ], folder: home)
            #expect(done.status == 0, "\(done.output)\n\(done.errors)")
            #expect(done.output.contains("failed=0") && done.output.contains("changed=4"), "\(done.output)")
            let after = try await rig.curl("/restconf/data/lab-bench:bench?content=config", as: "operator")
            let bench = try #require(after.json["lab-bench:bench"] as? [String: Any], "\(after)")
            #expect(bench["title"] as? String == "by ansible")
            let links = (bench["link"] as? [[String: Any]])?.compactMap { $0["name"] as? String }
            #expect(Set(links ?? []) == ["almagro-norte", "from-ansible"], "\(after)")
        }
    }

    private static let playbook = """
        - hosts: node
          gather_facts: false
          tasks:
            - name: read
              ansible.netcommon.restconf_get:
                path: /data/lab-bench:bench
                content: config
              register: before
            - name: what was read
              ansible.builtin.assert:
                that:
                  - before.response['lab-bench:bench'].title == 'first'
                  - before.response['lab-bench:bench'].link | length == 2
            - name: create
              ansible.netcommon.restconf_config:
                path: /data/lab-bench:bench
                method: post
                content: '{"lab-bench:link": [{"name": "from-ansible", "loss": "3.25"}]}'
            - name: replace
              ansible.netcommon.restconf_config:
                path: /data/lab-bench:bench/link=from-ansible
                method: put
                content: '{"lab-bench:link": [{"name": "from-ansible", "loss": "4.5", "enabled": false}]}'
            - name: merge
              ansible.netcommon.restconf_config:
                path: /data/lab-bench:bench
                method: patch
                content: '{"lab-bench:bench": {"title": "by ansible"}}'
            - name: remove
              ansible.netcommon.restconf_config:
                path: /data/lab-bench:bench/link=a%2Fb%20c
                method: delete
            - name: remove again
              ansible.netcommon.restconf_config:
                path: /data/lab-bench:bench/link=a%2Fb%20c
                method: delete
              register: again
            - name: nothing was left to remove
              ansible.builtin.assert:
                that: not again.changed
            - name: what was written
              ansible.netcommon.restconf_get:
                path: /data/lab-bench:bench/link=from-ansible
              register: link
            - name: is there
              ansible.builtin.assert:
                that:
                  - link.response['lab-bench:link'][0].loss == '4.5'
                  - not link.response['lab-bench:link'][0].enabled
        """
}
