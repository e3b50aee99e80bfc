// Where in the tree a term of a link stands that the link service has refused in its own words.

/// The link service names a term first: "link almagro-norte: loss_db is -1.0: 0 to 100 are possible".
enum LinkTerm {
    private static let leafs: [(words: String, leaf: String)] = [
        ("loss_db is", "/phys_channel_att"), ("grid_channel is", "/phys_wavelength"), ("role is", "/phys_qkd_role"),
        ("there is no peer", "/qkdl_remote/qkdn_id"), ("two links to", "/qkdl_remote/qkdn_id"), ("there is no device", cv("device")),
        ("a receiver serves one link", "/qkdl_local/qkdi_id"), ("path is", cv("optical-path")), ("there is no code", cv("code")),
        ("efficiency is", cv("reconciliation-efficiency")), ("block_symbols is", cv("block-symbols")),
        ("slot_symbols is", cv("slot-symbols")), ("weight is", cv("slot-weight")), ("epsilon is", cv("epsilon")),
    ]

    private static func cv(_ leaf: String) -> String { "/\(YANGNames.cv)cv-qkd/\(leaf)" }

    /// - Returns: below the link's own place, or nothing where no single datum is to blame.
    static func leaf(in reason: String) -> String {
        let parts = reason.split(separator: ": ", omittingEmptySubsequences: false)
        for part in parts { if let known = leafs.first(where: { part.hasPrefix($0.words) }) { return known.leaf } }
        return ""
    }
}
