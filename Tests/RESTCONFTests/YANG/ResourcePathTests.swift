import Foundation
import RESTCONF
import Testing

@Suite("RFC 8040, section 3.5.3: resource identifiers") struct ResourcePathTests {
    let schema: YANGSchema
    init() throws { schema = try YANGRig.shopSchema() }

    @Test(
        "section 3.5.3: api-path, instance identifier and back",
        arguments: [
            ("test-shop:shop", "/test-shop:shop", "test-shop:shop"),
            ("test-shop:shop/motto", "/test-shop:shop/motto", "test-shop:shop/motto"),
            ("test-shop:shop/test-shop:motto", "/test-shop:shop/motto", "test-shop:shop/motto"),
            ("test-shop:shop/shelf=a,7/label", "/test-shop:shop/shelf[row='a'][column='7']/label", "test-shop:shop/shelf=a,7/label"),
            ("test-shop:shop/shelf=,7", "/test-shop:shop/shelf[row=''][column='7']", "test-shop:shop/shelf=,7"),
            ("test-shop:shop/shelf=a,007", "/test-shop:shop/shelf[row='a'][column='7']", "test-shop:shop/shelf=a,7"),
            (
                "test-shop:shop/shelf=%2C%27%22%3A%22%20%2F,7", "/test-shop:shop/shelf[row=\",'\":\" /\"][column='7']",
                "test-shop:shop/shelf=%2C%27%22%3A%22%20%2F,7"
            ),
            ("test-shop:shop/tag=x%2Cy", "/test-shop:shop/tag[.='x,y']", "test-shop:shop/tag=x%2Cy"),
            ("test-shop:shop/step=%C3%A9", "/test-shop:shop/step[name='é']", "test-shop:shop/step=%C3%A9"),
        ])
    func both(_ text: String, _ xpath: String, _ back: String) throws {
        let path = try ResourcePath(parsing: text, schema: schema)
        #expect(path.xpath == xpath)
        #expect(path.apiPath() == back)
        #expect(try ResourcePath(parsing: back, schema: schema) == path)
    }

    @Test(
        "sections 3.5.3 and 7: what is refused, and how",
        arguments: [
            ("nowhere:shop", ErrorTag.unknownElement), ("test-shop:nothing", .unknownElement), ("shop", .unknownElement),
            ("test-shop:shop/nothing", .unknownElement), ("test-shop:shop/motto/x", .unknownElement), ("test-shop:sold", .unknownElement),
            ("test-shop:shop/shelf", .missingElement), ("test-shop:shop/shelf=a", .invalidValue), ("test-shop:shop/tag", .missingElement),
            ("test-shop:shop/shelf=a,1,2", .invalidValue), ("test-shop:shop/shelf=a,x", .invalidValue), ("test-shop:shop=1", .invalidValue),
            ("test-shop:shop/step=%zz", .invalidValue), ("test-shop:shop/step=%", .invalidValue),
            ("test-shop:shop/step=%ff", .invalidValue),
            ("test-shop:shop/step=%00", .invalidValue), ("", .invalidValue), ("test-shop:shop//motto", .invalidValue),
            ("test-shop:shop/", .invalidValue), ("te st:shop", .invalidValue), (":shop", .invalidValue), ("a:b:c", .invalidValue),
        ])
    func refused(_ text: String, _ tag: ErrorTag) async {
        let error = await YANGRig.refusal { try ResourcePath(parsing: text, schema: schema) }
        #expect(error?.tag == tag)
        #expect(error?.status == 400)
    }

    @Test("section 3.6: operations and actions have paths") func operations() throws {
        #expect(try ResourcePath(parsing: "test-shop:greet", schema: schema).steps.last?.kind == .rpc)
        #expect(try ResourcePath(parsing: "test-shop:shop/shelf=a,1/tidy", schema: schema).steps.last?.kind == .action)
    }

    @Test("names without a module are taken where the server allows it") func unqualified() throws {
        let path = try ResourcePath(parsing: "shop/motto", schema: schema, qualified: false)
        #expect(path.apiPath() == "test-shop:shop/motto")
    }

    @Test("a path of 20000 bytes or 100 segments is refused at once") func long() async {
        let deep = Array(repeating: "test-shop:shop", count: 100).joined(separator: "/")
        for text in [deep, "test-shop:shop/step=" + String(repeating: "a", count: 20_000)] {
            #expect(await YANGRig.refusal { try ResourcePath(parsing: text, schema: schema) }?.status == 414)
        }
    }

    @Test("random paths are refused or come back as they were") func fuzz() {
        var random = SystemRandomNumberGenerator()
        let pieces = [
            "test-shop:", "shop", "/", "=", ",", "%", "%2", "%2F", "shelf", "step", "a", "7", "'", "\"", "[", "]", "..", "é", "\u{0}",
            "tag", ";", " ",
        ]
        for _ in 0..<20_000 {
            let text = (0..<Int.random(in: 0...12, using: &random)).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
            guard let path = try? ResourcePath(parsing: text, schema: schema) else { continue }
            #expect((try? ResourcePath(parsing: path.apiPath(), schema: schema)) == path)
        }
    }
}
