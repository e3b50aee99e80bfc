import RESTCONF
import Testing

@Suite("errors of RFC 8040, section 7") struct ErrorTests {
    @Test(
        "section 7: the status of each error-tag",
        arguments: [
            (ErrorTag.inUse, 409), (.tooBig, 413), (.unknownElement, 400), (.accessDenied, 403), (.dataExists, 409), (.dataMissing, 409),
            (.operationNotSupported, 501), (.operationFailed, 500), (.rollbackFailed, 500), (.malformedMessage, 400),
        ])
    func statuses(tag: ErrorTag, status: Int) {
        #expect(RESTCONFError(.protocol, tag, "x").status == status)
    }
}
