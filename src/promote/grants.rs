//! The least that a role needs for probes, promotion, `failover check` and the fence over the wire.

use std::fmt::Write;

/// What a role shall be able to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants<'a> {
    /// The role; it is made.
    pub role: &'a str,
    /// The database that connection strings name. Rights on functions and temporary tables are per database.
    pub database: &'a str,
    /// Whether `postgres/promote` is used.
    pub promote: bool,
    /// Whether `postgres/fence` is used. Needs PostgreSQL 15; before, only a superuser can do that.
    pub fence: bool,
}

/// The SQL that makes the role, to be run once on the primary by a superuser: a streaming standby follows. It can
/// be run again.
#[must_use]
pub fn grants_sql(grants: &Grants<'_>) -> String {
    let role = quoted(grants.role);
    let database = quoted(grants.database);
    let mut sql = format!(
        "-- Run on the primary, in the database {}, as a superuser; the standby follows by itself.\n\
         -- Then set a password: \\password {}\n\
         DO $$ BEGIN\n  CREATE ROLE {role} LOGIN;\nEXCEPTION WHEN duplicate_object THEN NULL;\nEND $$;\n\
         ALTER ROLE {role} CONNECTION LIMIT 20;\n\
         GRANT CONNECT ON DATABASE {database} TO {role};\n\
         -- Reads positions, lag and settings.\n\
         GRANT pg_monitor TO {role};\n",
        remark(grants.database),
        remark(grants.role),
    );
    if grants.promote {
        let _ = write!(
            sql,
            "-- Promotes, and proves it by a write that leaves nothing behind.\n\
             GRANT EXECUTE ON FUNCTION pg_catalog.pg_promote(boolean, integer) TO {role};\n\
             GRANT TEMPORARY ON DATABASE {database} TO {role};\n",
        );
    }
    if grants.fence {
        let _ = write!(
            sql,
            "-- Has the old primary refuse writers and ends their sessions.\n\
             GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only TO {role};\n\
             GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO {role};\n\
             GRANT pg_signal_backend TO {role};\n",
        );
    }
    sql
}

/// An identifier in double quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name within a comment, which ends with its line.
fn remark(name: &str) -> String {
    name.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out() {
        let sql = grants_sql(&Grants {
            role: "a\"; DROP ROLE b; --",
            database: "shop",
            promote: false,
            fence: false,
        });
        assert!(
            sql.contains("GRANT pg_monitor TO \"a\"\"; DROP ROLE b; --\";"),
            "{sql}"
        );
        assert!(!sql.contains("pg_promote"), "{sql}");
        let sql = grants_sql(&Grants {
            role: "a\nDROP ROLE b;",
            database: "shop",
            promote: true,
            fence: true,
        });
        assert!(!sql.lines().any(|l| l == "DROP ROLE b;"), "{sql}");
    }
}
