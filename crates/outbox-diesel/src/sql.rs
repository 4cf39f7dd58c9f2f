//! A statement whose text is rendered once and whose binds are typed: cached by its text on every backend, which
//! `diesel::sql_query` never is.

use std::marker::PhantomData;

use diesel::backend::{Backend, DieselReserveSpecialization};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::HasSqlType;

/// A statement: its text with placeholders, its binds in their order (a tuple of [`Bind`]), and the type `R` of its rows.
pub(crate) struct Sql<'q, B, R = ()> {
    text: &'q str,
    binds: B,
    rows: PhantomData<fn() -> R>,
}

/// A value bound as the SQL type `ST`.
pub(crate) struct Bind<ST, T> {
    value: T,
    sql_type: PhantomData<fn() -> ST>,
}

/// Binds a value as the SQL type `ST`: `bind::<BigInt, _>(7_i64)`.
pub(crate) fn bind<ST, T>(value: T) -> Bind<ST, T> {
    Bind { value, sql_type: PhantomData }
}

impl<'q, B, R> Sql<'q, B, R> {
    pub(crate) fn new(text: &'q str, binds: B) -> Self {
        Self { text, binds, rows: PhantomData }
    }
}

/// The binds of a statement.
pub(crate) trait Binds<DB: Backend> {
    fn push<'b>(&'b self, pass: AstPass<'_, 'b, DB>) -> QueryResult<()>;
}

impl<DB, B, R> QueryFragment<DB> for Sql<'_, B, R>
where
    DB: Backend + DieselReserveSpecialization,
    B: Binds<DB>,
{
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        pass.push_sql(self.text);
        self.binds.push(pass)
    }
}

impl<B, R> QueryId for Sql<'_, B, R> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<B, R> Query for Sql<'_, B, R> {
    type SqlType = R;
}

impl<B, R, C: diesel::Connection> diesel::RunQueryDsl<C> for Sql<'_, B, R> {}

impl<DB: Backend> Binds<DB> for () {
    fn push<'b>(&'b self, _: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        Ok(())
    }
}

macro_rules! tuple_of_binds {
    ($($st:ident $t:ident $i:tt),+) => {
        impl<DB: Backend, $($st, $t),+> Binds<DB> for ($(Bind<$st, $t>,)+)
        where
            $(DB: HasSqlType<$st>, $t: ToSql<$st, DB>,)+
        {
            fn push<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
                $(pass.push_bind_param_value_only::<$st, $t>(&self.$i.value)?;)+
                Ok(())
            }
        }
    };
}

tuple_of_binds!(S0 T0 0);
tuple_of_binds!(S0 T0 0, S1 T1 1);
tuple_of_binds!(S0 T0 0, S1 T1 1, S2 T2 2);
tuple_of_binds!(S0 T0 0, S1 T1 1, S2 T2 2, S3 T3 3);
tuple_of_binds!(S0 T0 0, S1 T1 1, S2 T2 2, S3 T3 3, S4 T4 4);
tuple_of_binds!(S0 T0 0, S1 T1 1, S2 T2 2, S3 T3 3, S4 T4 4, S5 T5 5);
tuple_of_binds!(S0 T0 0, S1 T1 1, S2 T2 2, S3 T3 3, S4 T4 4, S5 T5 5, S6 T6 6);
tuple_of_binds!(S0 T0 0, S1 T1 1, S2 T2 2, S3 T3 3, S4 T4 4, S5 T5 5, S6 T6 6, S7 T7 7);
tuple_of_binds!(S0 T0 0, S1 T1 1, S2 T2 2, S3 T3 3, S4 T4 4, S5 T5 5, S6 T6 6, S7 T7 7, S8 T8 8);
tuple_of_binds!(S0 T0 0, S1 T1 1, S2 T2 2, S3 T3 3, S4 T4 4, S5 T5 5, S6 T6 6, S7 T7 7, S8 T8 8, S9 T9 9);
#[cfg(feature = "inbox")]
tuple_of_binds!(S0 T0 0, S1 T1 1, S2 T2 2, S3 T3 3, S4 T4 4, S5 T5 5, S6 T6 6, S7 T7 7, S8 T8 8, S9 T9 9, S10 T10 10, S11 T11 11, S12 T12 12, S13 T13 13, S14 T14 14, S15 T15 15, S16 T16 16);
