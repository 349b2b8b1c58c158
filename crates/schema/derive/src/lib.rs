//! `#[derive(Fields)]`: turns a documented struct into the list of fields that a schema is made of.
//!
//! The macro has no vocabulary of its own: the tokens inside `#[field(…)]` are copied into an ordinary expression
//! evaluated with `portcullis_schema::build::*` in scope, so a typo is a compiler error at the struct. The field's doc
//! comment becomes its description; a field without one does not compile.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Expr, ExprLit, Fields, Lit, Meta, parse_macro_input};

/// Implements `portcullis_schema::Fields` for a struct with named fields.
///
/// Each field needs a doc comment and `#[field(EXPRESSION)]`, where EXPRESSION is a `Field` built with
/// `portcullis_schema::build`. `#[field(skip)]` leaves a field out of the schema. A raw identifier (`r#type`) or
/// `#[serde(rename = "…")]` gives the name as users write it.
#[proc_macro_derive(Fields, attributes(field))]
pub fn derive_fields(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<proc_macro2::TokenStream, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "Fields can be derived for structs only"));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(Error::new_spanned(&input.ident, "Fields needs named fields"));
    };
    let mut entries = Vec::new();
    for field in &named.named {
        let Some(ident) = &field.ident else { continue };
        let (mut tokens, mut doc, mut name) = (None, String::new(), ident.to_string().trim_start_matches("r#").to_owned());
        for attribute in &field.attrs {
            if attribute.path().is_ident("field") {
                tokens = Some(attribute.parse_args::<proc_macro2::TokenStream>()?);
            } else if attribute.path().is_ident("doc") {
                if let Meta::NameValue(pair) = &attribute.meta
                    && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value
                {
                    if !doc.is_empty() {
                        doc.push(' ');
                    }
                    doc.push_str(text.value().trim());
                }
            } else if attribute.path().is_ident("serde") {
                attribute.parse_nested_meta(|meta| {
                    if meta.path.is_ident("rename") {
                        name = meta.value()?.parse::<syn::LitStr>()?.value();
                    } else if meta.input.peek(syn::Token![=]) {
                        meta.value()?.parse::<Expr>()?;
                    }
                    Ok(())
                })?;
            }
        }
        let Some(tokens) = tokens else {
            return Err(Error::new_spanned(ident, "needs #[field(…)]: how the field is checked, or `skip`"));
        };
        if tokens.to_string() == "skip" {
            continue;
        }
        if doc.is_empty() {
            return Err(Error::new_spanned(ident, "needs a doc comment: it is the field's description for users"));
        }
        entries.push(quote! { (#name, { use portcullis_schema::build::*; #tokens }.doc(#doc)) });
    }
    let (ident, (generics, types, bounds)) = (&input.ident, input.generics.split_for_impl());
    Ok(quote! {
        impl #generics portcullis_schema::Fields for #ident #types #bounds {
            fn fields() -> Vec<(&'static str, portcullis_schema::Field)> { vec![#(#entries),*] }
        }
    })
}
