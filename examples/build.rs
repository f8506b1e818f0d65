//! Generates the service of the example `tonic_service`. A service with a `.proto` file calls `tonic_prost_build` here.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let method = |name: &str, route: &str, input: &str, output: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(input)
            .output_type(output)
            .codec_path("tonic_prost::ProstCodec")
            .build()
    };
    let users = Service::builder()
        .name("Users")
        .package("example")
        .method(method("find", "Find", "crate::Id", "crate::User"))
        .method(method("rename", "Rename", "crate::User", "crate::Done"))
        .build();
    Builder::new().compile(&[users]);
}
