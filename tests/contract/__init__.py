"""What every backend must do, whatever CRM is behind it."""
